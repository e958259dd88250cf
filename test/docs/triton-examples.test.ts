// The clients of docs/triton.md: the tensors that they make, against those of qedit. The one in Python: triton-python.test.ts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { expect, test } from "vitest";
import { readPictures } from "../../src/stages/pictures.js";
import { readTokenizerJson } from "../../src/text/tokenizer.js";
import { EXAMPLES, expectInputs, type Made, NUMBERS, PATHS, PROMPT, wantedInputs } from "./triton-inputs.js";

test("the client in Node makes the tensors of an edit, but for the last bits of its resizing", async () => {
  const { settings, wanted } = await wantedInputs();
  const { editInputs } = await import(join(EXAMPLES, "triton-edit.mjs"));
  const pictures = (await readPictures(PATHS)).map(({ image }) => image);
  const tokenizer = new Tokenizer(await readTokenizerJson(), {});
  const options = { tokenizer, negative: "blurry", ...NUMBERS };
  const made = await editInputs(pictures, PROMPT, JSON.parse(settings), options);
  const tensors = made.map(([name, , shape, data]: [string, string, number[], Made["data"]]) => [
    name,
    { shape, data },
  ]);
  // sharp enlarges in another way.
  expectInputs(Object.fromEntries(tensors), wanted, { pixels: 4, noise: "own" });
  const { negative: _, ...unguided } = options;
  const others = await editInputs(pictures, PROMPT, JSON.parse(settings), unguided);
  const names = others.map(([name]: [string]) => name);
  expect(names).toEqual(Object.keys(wanted).filter((name) => !["negative_input_ids", "cfg"].includes(name)));
});

test.each(["triton_edit.py", "triton-edit.mjs"])("%s has under 120 lines", (name) => {
  expect(readFileSync(join(EXAMPLES, name), "utf8").trimEnd().split("\n").length).toBeLessThan(120);
});
