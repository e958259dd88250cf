import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { packedMerges } from "../../fixtures/text/published-merges.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { TOKEN } from "../../src/text/vocabulary.js";
import { processorTime } from "../support/processor-time.js";

const golden = JSON.parse(readFileSync(new URL("../../fixtures/text/tokens.json", import.meta.url), "utf8")) as {
  text: string;
  ids: number[];
}[];
const spent = processorTime();
const tokenizer = await loadTokenizer();
const loading = spent();

describe("the tokenizer gives the ids of transformers' Qwen2Tokenizer", () => {
  test("on more than 30 strings", () => expect(golden.length).toBeGreaterThan(30));

  test.each(golden)("for $text", ({ text, ids }) => expect(tokenizer.encode(text)).toEqual(ids));
});

test("added tokens have the published ids", () => {
  const spelled = "<|endoftext|><|im_start|><|im_end|><|vision_start|><|vision_end|><|image_pad|><|video_pad|>";
  expect(tokenizer.encode(spelled)).toEqual(Object.values(TOKEN));
});

test("decoding gives the text back, added tokens included", () => {
  for (const { text } of golden) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text.normalize("NFC"));
});

test("loading takes some hundredths of a second", () => {
  // Measured 0.03 s; the rest is room for a busy machine.
  expect(loading).toBeLessThan(500);
});

test("the merges that ship are those that were published", () => {
  const bytes = (path: string) => gunzipSync(readFileSync(new URL(`../../${path}`, import.meta.url)));
  const lines = bytes("fixtures/text/qwen2.5-merges.txt.gz").toString("utf8").split("\n");
  expect(bytes("src/text/data/qwen2.5-merges.bin.gz").equals(packedMerges(lines))).toBe(true);
});

test("a word of a hundred thousand letters takes no longer than its length", () => {
  const before = processorTime();
  expect(tokenizer.encode("ab".repeat(50_000)).length).toBeGreaterThan(1000);
  expect(before()).toBeLessThan(2000);
});
