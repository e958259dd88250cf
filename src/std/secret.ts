// Keys and tokens that are sent in a header: as they were written, but for the line break that a file or `$(…)` adds.
import { QeditError } from "./errors.js";

/** Longest key in characters; keys have some dozens. */
const LONGEST = 4096;

/**
 * The key that a variable, a flag or a file holds; undefined: it is empty. Throws QEDIT_E_USAGE, which names `source` and never the key, for what no
 * header can carry.
 */
export function secretOf(
  written: string | undefined,
  source: string,
  { hint = "A key is one word of ASCII characters: `openssl rand -hex 32` makes one" }: { readonly hint?: string } = {},
): string | undefined {
  const secret = written?.trim();
  if (secret === undefined || secret === "") return undefined;
  if (/^[\x21-\x7e]+$/.test(secret) && secret.length <= LONGEST) return secret;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${source} as a key: it holds spaces, line breaks or other letters`,
    {
      hint,
    },
  );
}
