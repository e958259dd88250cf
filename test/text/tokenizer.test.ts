import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
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

test("loading takes about half a second", () => {
  // Measured 0.5 s; the rest is room for a busy machine.
  expect(loading).toBeLessThan(2500);
});
