// INT8 weights whose columns were rotated (ConvRot), as ComfyUI's files have them: against the weights that they stand for.
import { describe, expect, test } from "vitest";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { rotated, rotation } from "../../src/checkpoint/rotation.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { readScaledRows } from "../../src/checkpoint/scaled-rows.js";
import { linear } from "../../src/models/layers.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { type RawTensor, raw, writeRaw } from "../support/quantised.js";

const SAME = 1e-5;
const [TOKENS, IN, OUT] = [3, 512, 20];
const folder = temporaryFolder();
let files = 0;

// Kronecker powers of the block that the paper gives, product by product.
function kronecker(size: number): number[][] {
  const four = [
    [1, 1, 1, -1],
    [1, 1, -1, 1],
    [1, -1, 1, 1],
    [-1, 1, 1, 1],
  ];
  let matrix = four;
  while (matrix.length < size)
    matrix = matrix.flatMap((row) => four.map((inner) => row.flatMap((a) => inner.map((b) => a * b))));
  return matrix.map((row) => row.map((value) => value / Math.sqrt(size)));
}

const asText = (value: unknown): RawTensor => {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  return { dtype: "U8", shape: [bytes.length], bytes };
};

/** A layer's weight, rotated by groups and rounded to rows of INT8, and what it stands for. */
function layer(group: number) {
  const values = numbers([OUT, IN], 2).data as Float32Array;
  const matrix = kronecker(group);
  const turned = Float64Array.from({ length: OUT * IN }, (_, at) => {
    const [row, column] = [Math.floor(at / IN), at % IN];
    const start = row * IN + Math.floor(column / group) * group;
    return matrix[column % group]!.reduce((sum, value, index) => sum + value * values[start + index]!, 0);
  });
  const scales = Float32Array.from(
    { length: OUT },
    (_, row) => Math.max(...turned.slice(row * IN, (row + 1) * IN).map(Math.abs)) / 127,
  );
  const codes = Int8Array.from(turned, (value, at) => Math.round(value / scales[Math.floor(at / IN)]!));
  const wanted = Float32Array.from({ length: OUT * IN }, (_, at) => {
    const [row, column] = [Math.floor(at / IN), at % IN];
    const start = row * IN + Math.floor(column / group) * group;
    return matrix[column % group]!.reduce((sum, value, index) => sum + value * codes[start + index]! * scales[row]!, 0);
  });
  const weight: RawTensor = { dtype: "I8", shape: [OUT, IN], bytes: new Uint8Array(codes.buffer) };
  return { weight, scale: raw([OUT, 1], scales), wanted };
}

const described = (group: number | undefined) => ({
  format: "int8_tensorwise",
  convrot: true,
  ...(group === undefined ? {} : { convrot_groupsize: group }),
});

test("the rotation is the Kronecker power, and undoes itself", () => {
  for (const size of [4, 16, 256]) {
    expect([...rotation(size)]).toEqual(kronecker(size).flat().map(Math.fround));
    const row = numbers([size * 3], 1).data as Float32Array;
    expect(scaledError(rotated(rotated(row, size), size), row)).toBeLessThan(1e-6);
  }
});

describe.each([16, 64, 256, undefined])("in groups of %s", (group) => {
  const { weight, scale, wanted } = layer(group ?? 256);
  const tensors = {
    "layer.weight": weight,
    "layer.weight_scale": scale,
    "layer.comfy_quant": asText(described(group)),
  };
  const opened = async () => readSafetensors(await writeRaw(folder.at(`${files++}.safetensors`), tensors));

  test("a linear layer rotates its input", async () => {
    await using network = await openNetwork(await opened(), {
      optimization: "none",
      build: (graph, w) => graph.output("y", linear(graph.input("x", "f32", ["tokens", IN]), w.at("layer"))),
    });
    expect(network.unused).toEqual([]);
    const x = numbers([TOKENS, IN], 4);
    const { y } = await network.session.run({ x });
    const product = Float32Array.from({ length: TOKENS * OUT }, (_, at) => {
      const [token, row] = [Math.floor(at / OUT), at % OUT];
      let sum = 0;
      for (let column = 0; column < IN; column += 1)
        sum += Number(x.data[token * IN + column]) * wanted[row * IN + column]!;
      return sum;
    });
    expect(scaledError(y!.data as Float32Array, product)).toBeLessThan(SAME);
  });

  test("rows that are looked up are turned back", async () => {
    const rows = await readScaledRows(await opened(), "layer", [7, 0]);
    const two = Float32Array.of(...wanted.slice(7 * IN, 8 * IN), ...wanted.slice(0, IN));
    expect(scaledError(rows, two)).toBeLessThan(1e-6);
  });
});

test.each([16, 64, 256])(
  "weights in groups of %i are those that comfy-kitchen gives back (fixtures/convrot)",
  async (group) => {
    const { tensors } = await readSafetensors(fixture("convrot/rotated.safetensors"));
    const stored = async (part: string): Promise<RawTensor> => {
      const { dtype, shape } = tensors.get(`${group}.${part}`)!;
      return { dtype, shape, bytes: await readBytes(tensors.get(`${group}.${part}`)!) };
    };
    const path = await writeRaw(folder.at(`${files++}.safetensors`), {
      "layer.weight": await stored("codes"),
      "layer.weight_scale": await stored("scales"),
      "layer.comfy_quant": asText(described(group)),
    });
    const values = await readTensor(tensors.get(`${group}.values`)!);
    const rows = await readScaledRows(await readSafetensors(path), "layer", [0, 1, 2, 3, 4, 5, 6, 7]);
    expect(scaledError(rows, values)).toBeLessThan(1e-6);
  },
);

test("the metadata of a file may say it, without the prefix of its tensors", async () => {
  const { weight, scale, wanted } = layer(64);
  const metadata = { _quantization_metadata: JSON.stringify({ layers: { layer: described(64) } }) };
  const path = await writeRaw(
    folder.at(`${files++}.safetensors`),
    { "model.diffusion_model.layer.weight": weight, "model.diffusion_model.layer.weight_scale": scale },
    metadata,
  );
  const rows = await readScaledRows(await readSafetensors(path), "model.diffusion_model.layer", [0]);
  expect(scaledError(rows, wanted.slice(0, IN))).toBeLessThan(1e-6);
});

test.each([
  ["of a layer that is not there", { other: described(64) }],
  ["in groups that do not fit its columns", { layer: described(1024) }],
])("a rotation %s is refused", async (_, layers) => {
  const { weight, scale } = layer(64);
  const metadata = { _quantization_metadata: JSON.stringify({ layers }) };
  const path = await writeRaw(
    folder.at(`${files++}.safetensors`),
    { "layer.weight": weight, "layer.weight_scale": scale },
    metadata,
  );
  await expect(readSafetensors(path)).rejects.toThrow("is rotated, and no weight fits that");
});
