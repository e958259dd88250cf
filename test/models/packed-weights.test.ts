// Every GGUF type of blocks: its numbers as the gguf package gives them (fixtures/gguf/blocks.py), and the products with them.
import { expect, test } from "vitest";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { readBytes, readRows, readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { weightMemory } from "../../src/engine/memory/session-weights.js";
import { Graph } from "../../src/graph/graph.js";
import { linear } from "../../src/models/layers.js";
import { tokenEmbeddings } from "../../src/models/qwen2.5-vl/token-embeddings.js";
import { weightAt } from "../../src/models/stored-weight.js";
import { tensor } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { floats, repackedTo, writeGguf } from "../support/gguf.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

/** float32 sums of some hundred products in another order. */
const SAME = 1e-5;
const [ROWS, COLUMNS, TOKENS] = [6, 512, 5];

const folder = temporaryFolder();
const blocks = await readSafetensors(fixture("gguf/blocks.safetensors"));
const TYPES = Object.keys(BLOCK_TYPES) as BlockTypeName[];
let files = 0;

async function opened(type: BlockTypeName, name = "layer.weight") {
  const bytes = await readBytes(blocks.tensors.get(`${type}.blocks`)!);
  const file = await writeGguf(folder.at(`${files}.gguf`), {
    tensors: {
      [name]: { shape: [ROWS, COLUMNS], type: BLOCK_TYPES[type].id, bytes },
      "layer.bias": floats([ROWS], numbers([ROWS], 3).data as Float32Array),
    },
  });
  const checkpoint = await repackedTo(folder.at(`${files++}.safetensors`), await openCheckpoint(file));
  return { checkpoint, values: await readTensor(blocks.tensors.get(`${type}.values`)!) };
}

test.each(TYPES)("the numbers of %s are those of the gguf package", async (type) => {
  const { checkpoint, values } = await opened(type);
  const stored = checkpoint.tensors.get("layer.weight")!;
  expect(stored).toMatchObject({ dtype: type, shape: [ROWS, COLUMNS] });
  expect(await readTensor(stored)).toEqual(values);
  expect(await readRows(stored, [4, 1])).toEqual(
    Float32Array.of(...values.slice(4 * COLUMNS, 5 * COLUMNS), ...values.slice(COLUMNS, 2 * COLUMNS)),
  );
});

test.each(TYPES)("a linear layer multiplies by the numbers of %s", async (type) => {
  const { checkpoint, values } = await opened(type);
  await using network = await openNetwork(checkpoint, {
    optimization: "none",
    build: (graph, w) => graph.output("y", linear(graph.input("x", "f32", ["tokens", COLUMNS]), w.at("layer"))),
  });
  expect(network.unused).toEqual([]);
  const x = numbers([TOKENS, COLUMNS], 4);
  const bias = numbers([ROWS], 3).data;
  const wanted = Float32Array.from({ length: TOKENS * ROWS }, (_, at) => {
    const [token, row] = [Math.floor(at / ROWS), at % ROWS];
    let sum = Number(bias[row]);
    for (let column = 0; column < COLUMNS; column += 1)
      sum += Number(x.data[token * COLUMNS + column]) * values[row * COLUMNS + column]!;
    return sum;
  });
  const { y } = await network.session.run({ x });
  expect(scaledError(y!.data as Float32Array, wanted)).toBeLessThan(SAME);
});

test.each([
  ["Q4_K", (ROWS * COLUMNS) / 2],
  ["Q8_0", 0],
] as const)("of weights in %s, %i bytes are laid out anew when a session opens on the CPU", async (type, bytes) => {
  const graph = new Graph("layer");
  const w = Weights.of(graph, (await opened(type)).checkpoint);
  graph.output("y", linear(graph.input("x", "f32", ["tokens", COLUMNS]), w.at("layer")));
  expect(weightMemory(graph, { isFolded: false }).resident).toBe(bytes);
});

test.each(TYPES.filter((type) => BLOCK_TYPES[type].bits === 8 && !BLOCK_TYPES[type].hasOffsets))(
  "the numbers of %s can be widened in a graph",
  async (type) => {
    const { checkpoint, values } = await opened(type);
    await using network = await openNetwork(checkpoint, {
      optimization: "none",
      build: (graph, w) => graph.output("w", weightAt(w.at("layer"), "f32")),
    });
    expect((await network.session.run({}))["w"]!.data).toEqual(values);
  },
);

test.each(TYPES)("token embeddings are looked up in a graph in a table of %s", async (type) => {
  const { checkpoint, values } = await opened(type, "model.embed_tokens.weight");
  await using network = await openNetwork(checkpoint, {
    optimization: "none",
    build: (graph, w) => graph.output("rows", tokenEmbeddings(graph.input("ids", "i64", ["n"]), w)),
  });
  const ids = [3, 0, 5, 3];
  const { rows } = await network.session.run({ ids: tensor("int64", [4], BigInt64Array.from(ids.map(BigInt))) });
  const wanted = Float32Array.from(ids.flatMap((id) => [...values.slice(id * COLUMNS, (id + 1) * COLUMNS)]));
  expect(scaledError(rows!.data as Float32Array, wanted)).toBeLessThan(1e-6);
});
