// Formats text that may come from files, folders and networks for a terminal: no control characters but those of our own styles.

import { escapeControls } from "../../std/control-characters.js";
import type { Style } from "./style.js";

/** What a message may have of its own: line breaks and tabs, and in colour what styleText writes for the styles of render/style.ts. */
const PLAIN = /([\n\t]+)/;
const STYLED = /((?:\u001b\[(?:1|2|22|31|32|33|36|39)m|[\n\t])+)/;

/** A value as text of one line: strings unchanged, other values as JSON; control characters escaped, truncated to `most` characters. */
export function shown(value: unknown, most = Infinity): string {
  if (value === undefined) return "–";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const safe = escapeControls(text.replaceAll("\n", "⏎"));
  return safe.length > most ? `${safe.slice(0, most - 1)}…` : safe;
}

/** Text with its control characters escaped, but line breaks and tabs, and our own styles where the stream has colours. */
export function printable(text: string, { color }: Pick<Style, "color"> = { color: false }): string {
  const parts = text.split(color ? STYLED : PLAIN);
  return parts.map((part, index) => (index % 2 === 1 ? part : escapeControls(part))).join("");
}

/** The text of one line, as printable, with its line breaks escaped too: a name can have some. */
export function printableLine(text: string, style?: Pick<Style, "color">): string {
  return printable(text, style).replaceAll("\n", (lineBreak) => escapeControls(lineBreak));
}

/** The same JSON with all control characters escaped: JSON.stringify leaves those above U+007E. */
export function printableJson(json: string): string {
  return escapeControls(json, "\n");
}
