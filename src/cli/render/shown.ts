// Formats text that may come from files, folders and networks for a terminal: no control characters but those of our own styles.

import type { Style } from "./style.js";

/** Controls of C0, DEL and C1, and those that reorder text (bidirectional). */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/** What a message may have of its own: line breaks and tabs, and in colour what styleText writes for the styles of render/style.ts. */
const PLAIN = /([\n\t]+)/;
const STYLED = /((?:\u001b\[(?:1|2|22|31|32|33|36|39)m|[\n\t])+)/;

/** A value as text of one line: strings unchanged, other values as JSON; control characters escaped, truncated to `most` characters. */
export function shown(value: unknown, most = Infinity): string {
  if (value === undefined) return "–";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const safe = text.replaceAll("\n", "⏎").replace(CONTROL, escaped);
  return safe.length > most ? `${safe.slice(0, most - 1)}…` : safe;
}

/** Text with its control characters escaped, but line breaks and tabs, and our own styles where the stream has colours. */
export function printable(text: string, { color }: Pick<Style, "color"> = { color: false }): string {
  const parts = text.split(color ? STYLED : PLAIN);
  return parts.map((part, index) => (index % 2 === 1 ? part : part.replace(CONTROL, escaped))).join("");
}

/** The same JSON with all control characters escaped: JSON.stringify leaves those above U+007E. */
export function printableJson(json: string): string {
  return json.replace(CONTROL, (control) => (control === "\n" ? control : escaped(control)));
}

function escaped(control: string): string {
  return `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
