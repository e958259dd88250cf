// Bytes that are written in base64.
import { QeditError } from "./errors.js";

/** Bytes written in base64, or in a data URL of them. Throws QEDIT_E_USAGE. */
export function fromBase64(written: string, parameter: string): Uint8Array {
  const data = /^data:[\w.+/-]*(?:;[\w.+=-]*)*;base64,/i.exec(written.slice(0, 200))?.[0];
  if (data === undefined && written.startsWith("data:"))
    throw new QeditError("QEDIT_E_USAGE", "Cannot read a data URL that is not in base64", { parameter });
  const text = written.slice(data?.length ?? 0).replace(/\s+/g, "");
  const bytes = Buffer.from(text, "base64");
  // Buffer ignores what is no base64: the length shows it.
  let digits = text.length;
  while (text[digits - 1] === "=") digits -= 1;
  if (bytes.length === 0 || bytes.length !== Math.floor((digits * 3) / 4))
    throw new QeditError("QEDIT_E_USAGE", "Cannot read the picture: it is not written in base64", { parameter });
  return bytes;
}
