// Token embeddings looked up in a graph, against the rows that the pipeline reads from the file, for every form in which the table is stored.
import { expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { readScaledRows } from "../../src/checkpoint/scaled-rows.js";
import { tokenEmbeddings } from "../../src/models/qwen2.5-vl/token-embeddings.js";
import { tensor } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { type Quantising, quantised, writeRaw } from "../support/quantised.js";

const folder = temporaryFolder();
const IDS = [3, 0, 299, 3, 150, 7];
let files = 0;
const ALL = Number.POSITIVE_INFINITY;

async function expectRows(path: string): Promise<void> {
  const checkpoint = await readSafetensors(path);
  await using network = await openNetwork(checkpoint, {
    build: (graph, w) => graph.output("rows", tokenEmbeddings(graph.input("ids", "i64", ["n"]), w)),
    optimization: "none",
  });
  const { rows } = await network.session.run({
    ids: tensor("int64", [IDS.length], BigInt64Array.from(IDS.map(BigInt))),
  });
  expect(rows!.data).toEqual(await readScaledRows(checkpoint, "model.embed_tokens", IDS));
}

test.each(["text-encoder", "text-encoder-fp8", "text-encoder-comfy-quant", "text-encoder-bf16", "text-encoder-fp32"])(
  "of %s are the rows of the file",
  (name) => expectRows(fixture(`tiny/${name}.safetensors`)),
);

const LAYOUTS: Readonly<Record<string, Omit<Quantising, "spelling">>> = {
  "one number": { block: [ALL, ALL], shape: () => [] },
  "a number a row": { block: [1, ALL] },
  "blocks of 128, smaller at the edges": { block: [128, 128] },
  "groups of 64 in a row": { block: [1, 64] },
  "integers, a number a row": { block: [1, ALL], dtype: "I8" },
  "wide 8-bit floats": { block: [1, ALL], dtype: "F8_E5M2" },
};

test.each(Object.entries(LAYOUTS))("in 8 bits with %s are the rows times their scale", async (_, layout) => {
  const { weight, scale } = quantised([300, 200], numbers([300, 200], 2).data as Float32Array, layout);
  const table = { "model.embed_tokens.weight": weight, "model.embed_tokens.weight_scale": scale };
  await expectRows(await writeRaw(folder.at(`${files++}.safetensors`), table));
});
