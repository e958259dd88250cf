// Formats untrusted values from files for a terminal: one line, no control characters, limited length.

/** A value as text: strings unchanged, other values as JSON; control characters escaped, truncated to `most` characters. */
export function shown(value: unknown, most = Infinity): string {
  if (value === undefined) return "–";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const safe = text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (control) =>
    control === "\n" ? "⏎" : `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return safe.length > most ? `${safe.slice(0, most - 1)}…` : safe;
}
