// DoRA beside weights of every stored form: the lengths of rows and columns are those of the numbers that the weights stand for.
import { expect, test } from "vitest";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { readScaledRows } from "../../src/checkpoint/scaled-rows.js";
import { linear } from "../../src/models/layers.js";
import { float32 } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { floats, repackedTo, writeGguf } from "../support/gguf.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { type Quantising, quantised, raw, writeRaw } from "../support/quantised.js";

/** float32 sums of some hundred products in another order. */
const SAME = 1e-5;
const [OUT, IN, RANK, TOKENS] = [6, 512, 3, 5];
const [SCALE, STRENGTH] = [0.5, 0.7];

const folder = temporaryFolder();
const x = numbers([TOKENS, IN], 4);
const [down, up] = [numbers([RANK, IN], 5), numbers([OUT, RANK], 6)];
const ALL = Number.POSITIVE_INFINITY;
const SCALED: Readonly<Record<string, Omit<Quantising, "spelling">>> = {
  "fp8 with one scale": { block: [ALL, ALL], shape: () => [] },
  "fp8 with a scale a row": { block: [1, ALL] },
  "fp8 with blocks": { block: [4, 128] },
  "int8 with a scale a row": { block: [1, ALL], dtype: "I8" },
};
const bias = numbers([OUT], 3);

/** The output of the layer by its definition, in float64. */
function rescaled(weight: Float32Array, magnitude: Float32Array): Float64Array {
  const isOfInputs = magnitude.length === IN;
  const sum = Float64Array.from(weight, (value, at) => {
    const [row, column] = [Math.floor(at / IN), at % IN];
    let added = 0;
    for (let k = 0; k < RANK; k += 1) added += up.data[row * RANK + k]! * down.data[k * IN + column]!;
    return value + SCALE * added;
  });
  const lineOf = (at: number) => (isOfInputs ? at % IN : Math.floor(at / IN));
  const squares = new Float64Array(magnitude.length);
  sum.forEach((value, at) => {
    squares[lineOf(at)]! += value * value;
  });
  const whole = sum.map((value, at) => value * (magnitude[lineOf(at)]! / Math.sqrt(squares[lineOf(at)]!)));
  return Float64Array.from({ length: TOKENS * OUT }, (_, at) => {
    const [token, row] = [Math.floor(at / OUT), at % OUT];
    let y = bias.data[row]!;
    for (let i = 0; i < IN; i += 1) {
      const value = weight[row * IN + i]!;
      y += x.data[token * IN + i]! * (value + STRENGTH * (whole[row * IN + i]! - value));
    }
    return y;
  });
}

async function written(form: string): Promise<string> {
  const [file, values] = [folder.at(`${form}.safetensors`), numbers([OUT, IN], 7).data as Float32Array];
  const own = raw([OUT], bias.data as Float32Array);
  const scaled = SCALED[form];
  if (scaled !== undefined) {
    const { weight, scale } = quantised([OUT, IN], values, scaled);
    return writeRaw(file, { "layer.weight": weight, "layer.weight_scale": scale, "layer.bias": own });
  }
  if (!(form in BLOCK_TYPES)) {
    return writeRaw(file, { "layer.weight": raw([OUT, IN], values, form as "F32"), "layer.bias": own });
  }
  const blocks = await readSafetensors(fixture("gguf/blocks.safetensors"));
  const { id } = BLOCK_TYPES[form as BlockTypeName];
  const bytes = await readBytes(blocks.tensors.get(`${form}.blocks`)!);
  const gguf = await writeGguf(folder.at(`${form}.gguf`), {
    tensors: {
      "layer.weight": { shape: [OUT, IN], type: id, bytes },
      "layer.bias": floats([OUT], bias.data as Float32Array),
    },
  });
  return gguf;
}

const FORMS = ["F32", "BF16", ...Object.keys(SCALED), ...Object.keys(BLOCK_TYPES)];

test.each(FORMS)("DoRA of outputs and of inputs rescales a weight stored as %s", async (form) => {
  const path = await written(form);
  const checkpoint = path.endsWith(".gguf")
    ? await repackedTo(folder.at(`${form}.packed.safetensors`), await openCheckpoint(path))
    : await readSafetensors(path);
  const stored = checkpoint.tensors.get("layer.weight")!;
  const weight = stored.packed
    ? await readTensor(stored)
    : await readScaledRows(
        checkpoint,
        "layer",
        Array.from({ length: OUT }, (_, row) => row),
      );
  for (const shape of [[OUT, 1], [1, IN], [OUT]]) {
    const magnitude = float32(
      shape,
      numbers(shape, 8).data.map((value) => 5 + Number(value)),
    );
    const file = folder.at(`${form}-${shape.join("-")}.safetensors`);
    const parts = { "lora_down.weight": down, "lora_up.weight": up, dora_scale: magnitude };
    const alpha = raw([], Float32Array.of(SCALE * RANK));
    const tensors = Object.entries(parts).map(
      ([name, each]) => [`layer.${name}`, raw(each.shape, each.data as Float32Array)] as const,
    );
    await writeRaw(file, { ...Object.fromEntries(tensors), "layer.alpha": alpha });
    const { matched } = await matchLora(await readSafetensors(file), checkpoint);
    await using network = await openNetwork(checkpoint, {
      optimization: "none",
      adapters: [{ name: "lora_strength.0", modules: matched }],
      build: (graph, w) => graph.output("y", linear(graph.input("x", "f32", ["tokens", IN]), w.at("layer"))),
    });
    const { y } = await network.session.run({ x, "lora_strength.0": float32([1], Float32Array.of(STRENGTH)) });
    const wanted = Float32Array.from(rescaled(weight, magnitude.data as Float32Array));
    expect(scaledError(y!.data as Float32Array, wanted), `magnitudes [${shape.join(", ")}]`).toBeLessThan(SAME);
  }
});
