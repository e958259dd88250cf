// Control characters of names and texts, for people: they could paint a terminal, or forge a line.

/** Controls of C0, DEL and C1, and those that reorder text (bidirectional). */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** The text with its control characters as `\u001b`, all but those of `kept`. */
export function escapeControls(text: string, kept = ""): string {
  return text.replace(CONTROL, (control) =>
    kept.includes(control) ? control : `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
