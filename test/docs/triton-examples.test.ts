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
  const made = await editInputs(pictures, PROMPT, JSON.parse(settings), { tokenizer, ...NUMBERS });
  const tensors = made.map(([name, , shape, data]: [string, string, number[], Made["data"]]) => [
    name,
    { shape, data },
  ]);
  const { negative_input_ids: _n, cfg: _c, ...unguided } = wanted;
  // sharp enlarges in another way.
  expectInputs(Object.fromEntries(tensors), unguided, 4);
});

test.each(["triton_edit.py", "triton-edit.mjs"])("%s has under 120 lines", (name) => {
  expect(readFileSync(join(EXAMPLES, name), "utf8").trimEnd().split("\n").length).toBeLessThan(120);
});
