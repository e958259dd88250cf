// Files that `models quantize` writes: their edits are in test/cli/quantised.test.ts.
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { type Quantizing, quantizeFile } from "../../src/catalog/local/quantize-file.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { encodeHeader } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { readScaledRows } from "../../src/checkpoint/scaled-rows.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";

const folder = temporaryFolder();
const ROUNDED = "transformer_blocks.0.attn.to_q";
const KEPT = "transformer_blocks.0.img_mod.1";
const how: Quantizing = {
  bits: 8,
  block: 32,
  overwrite: false,
  signal: new AbortController().signal,
  onProgress: () => {},
};

test("what a file says of its layers goes for those that are rounded, and stays for the others", async () => {
  const original = await openCheckpoint(fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors"));
  const layers = Object.fromEntries([ROUNDED, KEPT].map((module) => [module, { format: "float8_e4m3fn" }]));
  const path = folder.at("described.safetensors");
  const entries = [...original.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const metadata = { ...original.metadata, _quantization_metadata: JSON.stringify({ layers }) };
  const { header, ordered } = encodeHeader(entries, metadata);
  const data = await Promise.all(ordered.map(({ name }) => readBytes(original.tensors.get(name)!)));
  await writeFile(path, Buffer.concat([header, ...data]));

  await quantizeFile(await openCheckpoint(path), folder.at("int8.safetensors"), how);
  const written = await openCheckpoint(folder.at("int8.safetensors"));
  expect(JSON.parse(written.metadata["_quantization_metadata"]!).layers).toEqual({ [KEPT]: layers[KEPT] });
  expect(written.tensors.get(`${ROUNDED}.weight`)).toMatchObject({ dtype: "INT8" });
  expect(written.tensors.get(`${KEPT}.weight`)).toMatchObject({ dtype: "F8_E4M3" });
  const [rows = 0] = original.tensors.get(`${ROUNDED}.weight`)!.shape;
  const all = Array.from({ length: rows }, (_, row) => row);
  const wanted = await readScaledRows(original, ROUNDED, all);
  expect(scaledError(await readTensor(written.tensors.get(`${ROUNDED}.weight`)!), wanted)).toBeLessThan(0.01);
});
