// Whole edits with an adapter of each kind beside the embedded transformer, and with a transformer into which its formula was merged in float32.
import sharp from "sharp";
import { beforeAll, expect, test } from "vitest";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { fixture } from "../support/golden.js";
import { CAT, QUICK, workFolder } from "./qedit.js";
import { succeed } from "./recipes.js";

/** Decibels from which two pictures are one: a level of 255 off in 0.6 of 100 values. */
const SAME = 50;
const RANK = 4;
const TRANSFORMER = fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors");

type Matrix = Tensor<"float32">;
type Parts = Readonly<Record<string, Matrix>>;

const folder = workFolder();
const weights = new Map<string, Matrix>();
const config: Record<string, string> = {};
/** The edit without an adapter. */
let plain: Buffer;

beforeAll(async () => {
  const { tensors, metadata } = await readSafetensors(TRANSFORMER);
  Object.assign(config, metadata);
  for (const [name, stored] of tensors) weights.set(name, float32(stored.shape, await readTensor(stored)));
  plain = await edit("plain.png");
});

let seed = 1;
/** Numbers of about a tenth, others at every call. */
function some(...shape: number[]): Matrix {
  seed += 1;
  const length = shape.reduce((product, dim) => product * dim, 1);
  return float32(
    shape,
    Float32Array.from({ length }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * 0.12),
  );
}

function filled(value: number, ...shape: number[]): Matrix {
  const length = shape.reduce((product, dim) => product * dim, 1);
  return float32(shape, new Float32Array(length).fill(value));
}

function product(a: Matrix, b: Matrix): Matrix {
  const [rows, inner, columns] = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i += 1)
    for (let k = 0; k < inner; k += 1)
      for (let j = 0; j < columns; j += 1) data[i * columns + j]! += a.data[i * inner + k]! * b.data[k * columns + j]!;
  return float32([rows, columns], data);
}

function kronecker(a: Matrix, b: Matrix): Matrix {
  const [rows, columns] = [a.shape[0]! * b.shape[0]!, a.shape[1]! * b.shape[1]!];
  const data = Float32Array.from({ length: rows * columns }, (_, at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    const first = a.data[Math.floor(i / b.shape[0]!) * a.shape[1]! + Math.floor(j / b.shape[1]!)]!;
    return first * b.data[(i % b.shape[0]!) * b.shape[1]! + (j % b.shape[1]!)]!;
  });
  return float32([rows, columns], data);
}

function each(a: Matrix, change: (value: number, index: number) => number): Matrix {
  return float32(a.shape, a.data.map(change) as Float32Array<ArrayBuffer>);
}

/** The weight whose rows, or columns, have the lengths of a magnitude. */
function withLengths(weight: Matrix, magnitude: Matrix): Matrix {
  const [, columns] = weight.shape as [number, number];
  const lineOf = (at: number) => (magnitude.shape[0] === 1 ? at % columns : Math.floor(at / columns));
  const squares = new Float64Array(magnitude.data.length);
  weight.data.forEach((value, at) => {
    squares[lineOf(at)]! += value ** 2;
  });
  return each(weight, (value, at) => (value * magnitude.data[lineOf(at)]!) / Math.sqrt(squares[lineOf(at)]!));
}

interface Kind {
  readonly prefix: string;
  readonly parts: (out: number, input: number) => Parts;
  /** The weight at strength 1. */
  readonly whole: (weight: Matrix, parts: Parts) => Matrix;
  /** What is added to the bias at strength 1. */
  readonly bias?: (parts: Parts) => Matrix;
}

const added = (weight: Matrix, difference: Matrix, scale = 1) =>
  each(weight, (value, i) => value + scale * difference.data[i]!);
const pair = (out: number, input: number) => ({ "lora_A.weight": some(RANK, input), "lora_B.weight": some(out, RANK) });
const ofPair = (parts: Parts) => product(parts["lora_B.weight"]!, parts["lora_A.weight"]!);

const KINDS: Readonly<Record<string, Kind>> = {
  "a LoRA with biases": {
    prefix: "transformer.",
    parts: (out, input) => ({ ...pair(out, input), "lora_B.bias": filled(0.01, out) }),
    whole: (weight, parts) => added(weight, ofPair(parts)),
    bias: (parts) => parts["lora_B.bias"]!,
  },
  "DoRA of outputs": {
    prefix: "base_model.model.",
    parts: (out, input) => ({ ...pair(out, input), lora_magnitude_vector: filled(0.7, out) }),
    whole: (weight, parts) => withLengths(added(weight, ofPair(parts)), parts["lora_magnitude_vector"]!),
  },
  "DoRA of inputs": {
    prefix: "diffusion_model.",
    parts: (out, input) => ({ ...pair(out, input), dora_scale: filled(0.7, 1, input), alpha: filled(2) }),
    whole: (weight, parts) => withLengths(added(weight, ofPair(parts), 2 / RANK), parts["dora_scale"]!),
  },
  "a LoHa": {
    prefix: "lora_unet_",
    parts: (out, input) => ({
      ...{ hada_w1_a: some(out, RANK), hada_w1_b: some(RANK, input) },
      ...{ hada_w2_a: some(out, RANK), hada_w2_b: some(RANK, input), alpha: filled(RANK) },
    }),
    whole(weight, { hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b }) {
      const second = product(hada_w2_a!, hada_w2_b!);
      return added(
        weight,
        each(product(hada_w1_a!, hada_w1_b!), (value, i) => value * second.data[i]!),
      );
    },
  },
  "a LoKr": {
    prefix: "lycoris_",
    parts: (out, input) => ({ lokr_w1: some(4, 4), lokr_w2: some(out / 4, input / 4), alpha: filled(1e10) }),
    whole: (weight, { lokr_w1, lokr_w2 }) => added(weight, kronecker(lokr_w1!, lokr_w2!)),
  },
  "a factored LoKr": {
    prefix: "lora_transformer_",
    parts: (out, input) => ({
      ...{ lokr_w1: some(4, 4), lokr_w2_a: some(out / 4, RANK), lokr_w2_b: some(RANK, input / 4), alpha: filled(2) },
    }),
    whole: (weight, { lokr_w1, lokr_w2_a, lokr_w2_b }) =>
      added(weight, kronecker(lokr_w1!, product(lokr_w2_a!, lokr_w2_b!)), 2 / RANK),
  },
  "full differences": {
    prefix: "pipe.dit.",
    // As large as the others' products: larger ones leave no picture, and two orders of summing drift apart.
    parts: (out, input) => ({ diff: each(some(out, input), (value) => value / 5), diff_b: filled(0.01, out) }),
    whole: (weight, { diff }) => added(weight, diff!),
    bias: ({ diff_b }) => diff_b!,
  },
};

/** A weight with pairs of its rows turned: by [[cosine, sine], [-sine, cosine]], transposed. */
function rowsTurned(weight: Matrix, of: (pair: number) => readonly [cosine: number, sine: number]): Matrix {
  const columns = weight.shape[1]!;
  return each(weight, (value, at) => {
    const row = Math.floor(at / columns);
    const [cosine, sine] = of(row >> 1);
    const other = weight.data[row % 2 === 0 ? at + columns : at - columns]!;
    return cosine * value + (row % 2 === 0 ? -sine : sine) * other;
  });
}

function transposed({ shape, data }: Matrix): Matrix {
  const [rows, columns] = shape as [number, number];
  return float32(
    [columns, rows],
    Float32Array.from({ length: data.length }, (_, at) => data[(at % rows) * columns + Math.floor(at / rows)]!),
  );
}

/** Adapters that turn a weight: of blocks of two, by the angle whose half has this tangent, or its series. */
const ROTATIONS: Readonly<Record<string, Kind>> = {
  "OFT of outputs": {
    prefix: "lora_unet_",
    parts: (out) => ({ oft_blocks: some(out / 2, 2, 2), alpha: filled(0) }),
    whole: (weight, { oft_blocks }) =>
      rowsTurned(weight, (pair) => {
        const tangent = oft_blocks!.data[4 * pair + 1]! - oft_blocks!.data[4 * pair + 2]!;
        return [(1 - tangent ** 2) / (1 + tangent ** 2), (2 * tangent) / (1 + tangent ** 2)];
      }),
  },
  "OFT of inputs": {
    prefix: "transformer.",
    parts: (_, input) => ({ "oft_R.weight": some(input / 2, 1) }),
    whole: (weight, parts) =>
      transposed(
        rowsTurned(transposed(weight), (pair) => {
          const tangent = -parts["oft_R.weight"]!.data[pair]!;
          return [1 - 2 * tangent ** 2 + tangent ** 4, 2 * tangent - 2 * tangent ** 3];
        }),
      ),
  },
};

/** Writes an adapter, and the transformer with it merged at a strength. */
async function write(name: string, { prefix, parts: partsOf, whole, bias }: Kind, strength: number): Promise<void> {
  const adapter: Record<string, Matrix> = {};
  const merged = new Map(weights);
  const toward = (from: Matrix, to: Matrix) => each(from, (value, i) => value + strength * (to.data[i]! - value));
  const moduleName = (module: string) => prefix + (prefix.endsWith("_") ? module.replaceAll(".", "_") : module);
  for (const [key, weight] of weights) {
    if (!key.startsWith("transformer_blocks.") || !key.endsWith(".weight")) continue;
    const module = key.slice(0, -".weight".length);
    if (weight.shape.length === 1) {
      if (name !== "full differences") continue;
      const diff = some(weight.shape[0]!);
      adapter[`${moduleName(module)}.diff`] = diff;
      merged.set(key, toward(weight, added(weight, diff)));
      continue;
    }
    const parts = partsOf(weight.shape[0]!, weight.shape[1]!);
    for (const [part, stored] of Object.entries(parts)) adapter[`${moduleName(module)}.${part}`] = stored;
    merged.set(key, toward(weight, whole(weight, parts)));
    const own = weights.get(`${module}.bias`);
    if (bias && own) merged.set(`${module}.bias`, toward(own, added(own, bias(parts))));
  }
  await writeSafetensors(folder.at(`${name}.safetensors`), adapter, {});
  await writeSafetensors(folder.at(`${name} merged.safetensors`), Object.fromEntries(merged), config);
}

async function edit(output: string, ...more: string[]): Promise<Buffer> {
  const sized = ["--megapixels", "0.05", "--steps", "2", "--seed", "3", "--no-cache", "--force", ...QUICK];
  const { stderr } = await succeed(
    ["run", CAT, "-p", "make it sepia", "--model", "tiny", ...sized, "-o", output, ...more],
    folder.path,
  );
  expect(stderr).not.toContain("not used");
  return sharp(folder.at(output)).raw().toBuffer();
}

function decibels(a: Buffer, b: Buffer): number {
  const squares = a.reduce((sum, value, index) => sum + (value - b[index]!) ** 2, 0);
  return 10 * Math.log10((255 ** 2 * a.length) / squares);
}

test.each(Object.entries({ ...KINDS, ...ROTATIONS }))(
  "an edit with %s is that of the merged transformer",
  async (name, kind) => {
    const strength = name in ROTATIONS ? 1 : name.startsWith("DoRA") ? 0.6 : -0.4;
    await write(name, kind, strength);
    const wanted = await edit("merged.png", "--transformer", `${name} merged.safetensors`);
    const beside = await edit("beside.png", "--lora", `${name}.safetensors:${strength}`, "--strict-lora");
    const streamed = await edit("streamed.png", "--lora", `${name}.safetensors:${strength}`, "--vram", "700M");
    expect(decibels(wanted, plain)).toBeLessThan(40);
    expect(decibels(beside, wanted)).toBeGreaterThan(SAME);
    expect(decibels(streamed, wanted)).toBeGreaterThan(SAME);
  },
);
