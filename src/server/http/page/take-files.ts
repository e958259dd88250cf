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
  document.addEventListener("paste", ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])];
    if (files.length > 0 && !isBusy()) void take(files);
  });
  // Entering a child comes before leaving its parent.
  let depth = 0;
  const isFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes("Files") === true && !isBusy();
  document.addEventListener("dragenter", (event) => {
    if (!isFiles(event)) return;
    depth += 1;
    overlay.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!isFiles(event)) return;
    depth = Math.max(0, depth - 1);
    overlay.hidden = depth === 0;
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    [depth, overlay.hidden] = [0, true];
    if (isFiles(event)) void take([...event.dataTransfer!.files]);
  });
}

// While a dialog is open.
function isBusy(): boolean {
  return document.querySelector("dialog[open]") !== null;
}
