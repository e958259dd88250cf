// Weights in 8 bits times their scales, in every spelling and layout, against the weights that they were made of.
import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { readScaledRows } from "../../src/checkpoint/scaled-rows.js";
import { SCALE_NAMES, scaleGrid } from "../../src/checkpoint/weight-scales.js";
import { linear, rmsNormAt } from "../../src/models/layers.js";
import { weightAt } from "../../src/models/stored-weight.js";
import { fromFloat8E4M3, fromFloat8E5M2 } from "../../src/std/half-floats.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { openNetwork } from "../support/graphs.js";
import { type Quantising, quantised, type RawTensor, raw, writeRaw } from "../support/quantised.js";

/** float32 sums of some hundred products in another order. */
const SAME = 1e-5;

const folder = temporaryFolder();
const [TOKENS, IN, OUT] = [3, 300, 200];
const x = numbers([TOKENS, IN], 4);
let files = 0;

const ALL = Number.POSITIVE_INFINITY;
const LAYOUTS: Readonly<Record<string, Omit<Quantising, "spelling">>> = {
  "one number": { block: [ALL, ALL], shape: () => [] },
  "one number in a list": { block: [ALL, ALL], shape: () => [1] },
  "a number a row": { block: [1, ALL] },
  "a number a row, in a list": { block: [1, ALL], shape: ([rows]) => [rows] },
  "blocks of 128, smaller at the edges": { block: [128, 128] },
  "blocks of 64": { block: [64, 64] },
  "groups of 64 in a row": { block: [1, 64] },
  "groups of 75 in a row, on an axis of their own": { block: [1, 75], shape: ([rows, groups]) => [rows, groups, 1] },
  "scales in bfloat16": { block: [128, 128], scaleType: "BF16" },
  "integers, a number a row": { block: [1, ALL], dtype: "I8" },
  "integers, one number": { block: [ALL, ALL], dtype: "I8", shape: () => [] },
  "wide 8-bit floats": { block: [1, ALL], dtype: "F8_E5M2" },
};

/** The numbers of an 8-bit weight times its scale, computed one by one. */
function dequantised({ weight, scale }: { weight: RawTensor; scale: RawTensor }): Float32Array {
  const stored = {
    F8_E4M3: () => fromFloat8E4M3(weight.bytes),
    F8_E5M2: () => fromFloat8E5M2(weight.bytes),
    I8: () => Float32Array.from(new Int8Array(weight.bytes.buffer)),
  }[weight.dtype as "I8"]();
  const scales =
    scale.dtype === "BF16"
      ? Float32Array.from(new Uint16Array(scale.bytes.slice().buffer), (bits) => {
          const [value] = new Float32Array(Uint32Array.of(bits << 16).buffer);
          return value!;
        })
      : new Float32Array(scale.bytes.slice().buffer);
  const grid = scaleGrid(scale, weight)!;
  const columns = weight.shape[1]!;
  return stored.map((value, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    if (grid.per === "tensor") return value * scales[0]!;
    if (grid.per === "row") return value * scales[row]!;
    return (
      value *
      scales[Math.floor(row / grid.rows) * Math.ceil(columns / grid.columns) + Math.floor(column / grid.columns)]!
    );
  });
}

async function opened(tensors: Readonly<Record<string, RawTensor>>) {
  return readSafetensors(await writeRaw(folder.at(`${files++}.safetensors`), tensors));
}

async function product(tensors: Readonly<Record<string, RawTensor>>): Promise<Float32Array> {
  await using network = await openNetwork(await opened(tensors), {
    optimization: "none",
    build: (graph, w) => graph.output("y", linear(graph.input("x", "f32", ["tokens", IN]), w.at("layer")).cast("f32")),
  });
  expect(network.unused).toEqual([]);
  return (await network.session.run({ x }))["y"]!.data as Float32Array;
}

describe("a linear layer multiplies its 8-bit weights by", () => {
  const values = numbers([OUT, IN], 2).data as Float32Array;
  const bias = raw([OUT], numbers([OUT], 3).data as Float32Array);

  test.each(Object.entries(LAYOUTS))("%s", async (_, layout) => {
    const { weight, scale } = quantised([OUT, IN], values, layout);
    const full = dequantised({ weight, scale });
    // The layout was understood: what was quantised comes back.
    expect(scaledError(full, values)).toBeLessThan(layout.dtype === "F8_E5M2" ? 0.2 : 0.1);
    const wanted = await product({ "layer.weight": raw([OUT, IN], full), "layer.bias": bias });
    const found = await product({ "layer.weight": weight, "layer.weight_scale": scale, "layer.bias": bias });
    expect(scaledError(found, wanted)).toBeLessThan(SAME);
  });

  test.each(SCALE_NAMES)("a scale called %s", async (name) => {
    const { weight, scale } = quantised([OUT, IN], values, { block: [128, 128] });
    const wanted = await product({ "layer.weight": raw([OUT, IN], dequantised({ weight, scale })) });
    expect(scaledError(await product({ "layer.weight": weight, [`layer.${name}`]: scale }), wanted)).toBeLessThan(SAME);
  });

  test("nothing where the shape of the scale fits nothing", async () => {
    const { weight } = quantised([OUT, IN], values, { block: [1, ALL] });
    const scale = raw([7, 11], new Float32Array(77).fill(1));
    await expect(product({ "layer.weight": weight, "layer.weight_scale": scale })).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringContaining('"layer.weight_scale" in '),
    });
  });

  test("nothing where integers have no scale", async () => {
    const { weight } = quantised([OUT, IN], values, { block: [1, ALL], dtype: "I8" });
    await expect(product({ "layer.weight": weight })).rejects.toMatchObject({
      message: expect.stringContaining("8-bit integers without a scale"),
    });
  });
});

test("scales of the input and of a cache beside a weight need not be read", async () => {
  const { weight, scale } = quantised([OUT, IN], numbers([OUT, IN]).data as Float32Array, LAYOUTS["one number"]!);
  const idle = Object.fromEntries(["input_scale", "scale_input", "k_scale"].map((name) => [`layer.${name}`, scale]));
  await product({ "layer.weight": weight, "layer.weight_scale": scale, ...idle });
});

test("weights that are no matrices have scales too", async () => {
  const kernel = quantised([4, 2, 3, 3], numbers([4, 2, 3, 3]).data as Float32Array, LAYOUTS["a number a row"]!);
  const norm = quantised([IN], numbers([IN]).data as Float32Array, LAYOUTS["one number"]!);
  const tensors = {
    "kernel.weight": kernel.weight,
    "kernel.scale_weight": kernel.scale,
    "norm.weight": norm.weight,
    "norm.scale_weight": norm.scale,
  };
  await using network = await openNetwork(await opened(tensors), {
    optimization: "none",
    build: (graph, w) => {
      graph.output("kernel", weightAt(w.at("kernel"), "f32"));
      graph.output("normed", rmsNormAt(graph.input("x", "f32", ["tokens", IN]), w.at("norm"), 1e-6));
    },
  });
  expect(network.unused).toEqual([]);
  const { kernel: found, normed } = await network.session.run({ x });
  expect(scaledError(found!.data as Float32Array, numbers([4, 2, 3, 3]).data as Float32Array)).toBeLessThan(0.1);
  expect(normed!.shape).toEqual([TOKENS, IN]);
});

test.each(["one number", "a number a row", "blocks of 128, smaller at the edges", "groups of 64 in a row"])(
  "embeddings that are looked up are multiplied by %s",
  async (layout) => {
    const { weight, scale } = quantised([OUT, IN], numbers([OUT, IN]).data as Float32Array, LAYOUTS[layout]!);
    const full = dequantised({ weight, scale });
    const checkpoint = await opened({ "table.weight": weight, "table.weight_scale": scale });
    const rows = [199, 0, 130, 0];
    const wanted = rows.flatMap((row) => [...full.slice(row * IN, (row + 1) * IN)]);
    expect([...(await readScaledRows(checkpoint, "table", rows))]).toEqual(wanted);
  },
);
