// Pictures that are chosen, dropped anywhere on the page, or pasted.
import { found } from "./page-elements.js";

/** Passes the files to `take`. */
export function takeFiles(take: (files: readonly File[]) => Promise<void>): void {
  const input = found("files", HTMLInputElement);
  const overlay = found("dropping", HTMLDivElement);
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    // The same file can be chosen again.
    void take(files).finally(() => (input.value = ""));
  });
  document.addEventListener("paste", ({ clipboardData, target }) => {
    const files = [...(clipboardData?.files ?? [])];
    // Office programs give a picture of the text that is copied.
    const isText = target instanceof Element && target.matches("textarea, input") && hasText(clipboardData);
    if (files.length > 0 && !isText && !isBusy()) void take(files);
  });
  // Entering a child comes before leaving its parent.
  let depth = 0;
  const onFiles = (kind: "dragenter" | "dragleave" | "dragover" | "drop", act: (event: DragEvent) => void) =>
    document.addEventListener(kind, (event) => {
      if (event.dataTransfer?.types.includes("Files") !== true) return;
      // The browser would open the file in place of the page.
      event.preventDefault();
      act(event);
      overlay.hidden = depth === 0 || isBusy();
    });
  onFiles("dragenter", () => (depth += 1));
  onFiles("dragleave", () => (depth = Math.max(0, depth - 1)));
  onFiles("dragover", () => {});
  onFiles("drop", ({ dataTransfer }) => {
    depth = 0;
    if (!isBusy()) void take([...dataTransfer!.files]);
  });
}

function hasText(data: DataTransfer | null): boolean {
  return data?.types.includes("text/plain") === true;
}

// While a dialog is open.
function isBusy(): boolean {
  return document.querySelector("dialog[open]") !== null;
}
