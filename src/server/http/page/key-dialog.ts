// Asks for the API key of the server.
import { found } from "./page-elements.js";

/** A function that asks for the key until it is given; with the reason if one was refused. */
export function keyDialog(): (refused: string | undefined) => Promise<string> {
  const dialog = found("key-dialog", HTMLDialogElement);
  const field = found("key", HTMLInputElement);
  const reason = found("key-reason", HTMLParagraphElement);
  // Without the key nothing works.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  return (refused) =>
    new Promise((resolve) => {
      reason.textContent = refused ?? "This server wants a key.";
      field.value = "";
      field.toggleAttribute("aria-invalid", refused !== undefined);
      const closed = () => {
        const key = field.value.trim();
        // A header takes visible ASCII characters alone.
        if (!/^[\x21-\x7e]+$/.test(key)) {
          reason.textContent = "A key has letters, digits and signs, without spaces.";
          dialog.showModal();
          return;
        }
        dialog.removeEventListener("close", closed);
        field.value = "";
        resolve(key);
      };
      dialog.addEventListener("close", closed);
      dialog.showModal();
    });
}
