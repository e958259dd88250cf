// 10,000 lines in many scripts, made as fixtures/oracle/text/corpus.py makes them: the ids of transformers' Qwen2Tokenizer.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { loadTokenizer } from "../../src/text/tokenizer.js";

const IN_A_HASH = 100;

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/text/${name}.json`, import.meta.url), "utf8"));
const { ranges, hashes } = read("corpus") as { ranges: [first: number, last: number][]; hashes: string[] };
const strings = (read("tokens") as { text: string }[]).map(({ text }) => [...text]);

let state = 1;
function below(bound: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state >>> 8) % bound;
}

function line(): string {
  const pieces: string[] = [];
  for (let left = 1 + below(12); left > 0; left -= 1) {
    if (below(3) === 0) {
      const text = strings[below(strings.length)]!;
      const start = below(text.length + 1);
      pieces.push(...text.slice(start, start + below(24)));
    } else {
      const [first, last] = ranges[below(ranges.length)]!;
      for (let count = 1 + below(6); count > 0; count -= 1)
        pieces.push(String.fromCodePoint(first + below(last - first + 1)));
    }
  }
  return pieces.join("");
}

test("10,000 lines in many scripts give the ids of transformers' Qwen2Tokenizer", async () => {
  const tokenizer = await loadTokenizer();
  const found = hashes.map(() => {
    const ids = Array.from({ length: IN_A_HASH }, () => tokenizer.encode(line()));
    return createHash("sha256").update(JSON.stringify(ids)).digest("hex");
  });
  expect(found.length * IN_A_HASH).toBe(10_000);
  expect(found).toEqual(hashes);
});
