// Limits of JSON that comes from elsewhere, checked on its text: a parser takes many times the memory of the text, and V8 aborts the process when that is not there.

/** What a JSON text may hold at most. */
export interface JsonLimits {
  /** Objects and lists inside each other. */
  readonly depth: number;
  /** Entries of all objects and lists together. */
  readonly entries: number;
}

/** Why a JSON text is over its limits, such as `nests deeper than 8 levels`; undefined when it is within them, and for what is no JSON. */
export function jsonExcess(text: string, { depth, entries }: JsonLimits): string | undefined {
  let [level, count] = [0, 0];
  for (const next = /[[\]{},"]/g; next.test(text); ) {
    const at = next.lastIndex - 1;
    const mark = text[at];
    if (mark === '"') {
      const end = stringEnd(text, at);
      if (end === undefined) return undefined;
      next.lastIndex = end + 1;
    } else if (mark === "]" || mark === "}") level -= 1;
    else {
      if (mark !== ",") level += 1;
      count += 1;
    }
    if (level > depth) return `nests deeper than ${depth} levels`;
    if (count > entries) return `holds more than ${entries} entries`;
  }
  return undefined;
}

/** Index of the quote that closes the string opened at start; undefined when none does. */
export function stringEnd(json: string, start: number): number | undefined {
  for (let at = json.indexOf('"', start + 1); at >= 0; at = json.indexOf('"', at + 1)) {
    let slashes = 0;
    while (json[at - 1 - slashes] === "\\") slashes += 1;
    if (slashes % 2 === 0) return at;
  }
  return undefined;
}
