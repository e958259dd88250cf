// Texts that come from clients and servers, for messages.

/** Characters of a name or a value in a message. */
const SHORT = 100;

/** A text of another machine for a message: short, and without control characters. */
export function shown(text: string, most = SHORT): string {
  return text.replace(/\p{C}/gu, "").slice(0, most);
}
