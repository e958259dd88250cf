// Qwen-Image-2.1 at full width: two blocks against diffusers' class, and all of it built and opened over a sparse file of the class's shapes.
import { open, rm } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import type { StoredTensor } from "../../src/checkpoint/checkpoint.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { transformerOf } from "../../src/models/transformers.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { readGolden } from "../support/golden.js";
import { conditionsOf } from "../support/qwen-image-2.js";
import { publishedFile } from "../support/rotated-file.js";

const folder = temporaryFolder();
const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
afterAll(() => engine.dispose());
const context = { engine, emit: () => {}, signal: new AbortController().signal };
const HEADER = publishedTensors("qwen_image_2.1_bf16");

/** float32 sums of some thousand products in another order, beside the largest number. */
const SAME = 2e-5;

test("two blocks give the reference's velocity", async () => {
  const golden = await readGolden("../../tiny-2/golden/full-width");
  const { file, blocks } = await hashedCheckpoint(folder.at("transformer.safetensors"));
  const conditions = conditionsOf({ file, golden }, "full");
  expect(conditions.network.blocks).toBe(blocks);
  const run = { file, network: conditions.network, compute: "f32", loras: [], sigmas: [0.75], conditions } as const;
  const found = await withTransformer(run, context, (opened) =>
    velocityOf(opened, conditions)(golden.get("full.latent").data, 0.75, "positive"),
  );
  expect(scaledError(found, golden.get("full.velocity").data)).toBeLessThanOrEqual(SAME);
});

test.each(["qwen_image_2.1_bf16", "qwen_image_2.1_int8_convrot"] as const)(
  "%s has the published size, its 32 blocks use every tensor, and both graphs of the schedule open without reading any",
  async (name) => {
    const path = folder.at("sparse.safetensors");
    await publishedFile(path, name);
    const { checkpoint, config } = await openModel(path, "transformer");
    const network = transformerOf(numbersOf(checkpoint), config);
    expect(network).toMatchObject({ blocks: 32, width: 4096, textWidth: 4096, latentChannels: 64 });
    for (const part of ["whole", "prefix", "step"] as const) {
      const graph = new Graph(part);
      const weights = Weights.of(graph, checkpoint);
      network.build(graph, weights, { compute: "f32", part, references: 2 });
      if (part === "whole") expect(weights.unused()).toEqual([]);
      else
        await withSession(engine, await modelOf(graph, "none"), async () => {
          expect(process.memoryUsage.rss()).toBeLessThan(8e9);
        });
    }
    await rm(path);
  },
);

async function openSparse(path: string) {
  return { checkpoint: await readSafetensors(path), config: {} };
}

// Block 0 and what is beside the blocks as fixtures/oracle/qwen_image_2/full_width.py makes them, in bfloat16; block 1 reads what block 0 does.
async function hashedCheckpoint(path: string) {
  const tensors = HEADER.filter(({ name }) => !/^transformer_blocks\.(?!0\.)/.test(name));
  await sparseCheckpoint(path, tensors);
  const { checkpoint } = await openSparse(path);
  const handle = await open(path, "r+");
  for (const [name, { shape, offset }] of checkpoint.tensors)
    await handle.write(hashed(name, shape), 0, undefined, offset);
  await handle.close();
  const second = [...checkpoint.tensors].flatMap(([name, stored]): [string, StoredTensor][] =>
    name.startsWith("transformer_blocks.0.") ? [[name.replace(".0.", ".1."), stored]] : [],
  );
  const both = { ...checkpoint, tensors: new Map([...checkpoint.tensors, ...second]) };
  return {
    file: {
      checkpoint: both,
      config: {},
      identity: "hashed",
      stamps: new Map(),
      lookups: [],
      states: [],
      name: "hashed",
    },
    blocks: 2,
  };
}

function hashed(name: string, shape: readonly number[]): Uint8Array {
  const count = shape.reduce((product, dim) => product * dim, 1);
  const seed = crc32(name);
  const scale = 2 ** -(6 + Math.round(Math.log2(shape[1] ?? 1) / 2));
  // Of each hash the uppermost byte is used: as many numbers, exact in bfloat16.
  const numbers = Float32Array.from({ length: 256 }, (_, byte) => {
    const whole = byte - 128;
    if (name.endsWith("text_norm.weight")) return whole * 2 ** -9;
    return shape.length === 1 ? 1 + Math.floor(whole / 4) * 2 ** -7 : whole * scale;
  });
  const bfloat16 = Uint16Array.from(new Uint32Array(numbers.buffer), (bits) => bits >>> 16);
  const values = new Uint16Array(count);
  for (let index = 0; index < count; index += 1) {
    let h = (Math.imul(index, 2654435761) + seed) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    values[index] = bfloat16[(h ^ (h >>> 16)) >>> 24]!;
  }
  return new Uint8Array(values.buffer);
}
