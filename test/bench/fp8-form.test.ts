// Weights in float8 under ONNX Runtime's operator for them, which has no kernel on the CPU: the graph is held to the kernel table, and its
// numbers, with the operator written out as its documentation defines it (bench/rounded-engine.ts), to float64.
import { describe, expect, test } from "vitest";
import { type GraphForm, multiplyFp8 } from "../../bench/graph-forms.js";
import { roundedEngine } from "../../bench/rounded-engine.js";
import { missingKernels } from "../../fixtures/kernels/kernels.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { linear } from "../../src/models/layers.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { temporaryFolder } from "../checkpoint/folder.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { build, published } from "../support/full-size.js";

/** The product, its scale and its bias are rounded to bfloat16, each by at most 2^-9 of itself; where x is scaled, so is x. */
const ROUNDING = 2 ** -7;

const OPERATOR = "MatMulBlockQuantizedFp8Weight";
const [ROWS, IN, OUT] = [5, 32, 7];
const path = temporaryFolder();

/** Numbers that float8 e4m3 holds: three bits behind the first. */
const weights = Float32Array.from(
  { length: OUT * IN },
  (_, at) => (8 + (at % 7)) * 2 ** ((at % 5) - 6) * (at % 3 === 0 ? -1 : 1),
);
const SCALES: Readonly<Record<string, Tensor<"float32"> | undefined>> = {
  none: undefined,
  "a scalar": float32([], Float32Array.of(0.013)),
  "a scalar of one dimension": float32([1], Float32Array.of(0.013)),
  "one a row": float32(
    [OUT],
    Float32Array.from({ length: OUT }, (_, row) => 0.01 * (row + 1)),
  ),
  "one a row in a column": float32(
    [OUT, 1],
    Float32Array.from({ length: OUT }, (_, row) => 0.02 * (row + 1)),
  ),
};

async function layer({
  scale,
  hasBias,
  compute = "bf16",
}: {
  scale: string;
  hasBias: boolean;
  compute?: "bf16" | "f32";
}): Promise<Graph> {
  const file = path(`${scale} ${hasBias} ${compute}.safetensors`);
  await writeSafetensors(file, {
    "layer.weight": { ...float32([OUT, IN], weights), storedAs: "F8_E4M3" },
    ...(hasBias ? { "layer.bias": numbers([OUT], 4) } : {}),
    ...(SCALES[scale] ? { "layer.scale_weight": SCALES[scale] } : {}),
  });
  const graph = new Graph("layer");
  const x = graph.input("x", "f32", ["rows", IN]).cast(compute);
  graph.output("y", linear(x, Weights.of(graph, await readSafetensors(file)).at("layer")).cast("f32"));
  multiplyFp8(graph);
  return graph;
}

/** What the file's numbers make, in float64. */
function wanted(x: Float32Array, { scale, hasBias }: { scale: string; hasBias: boolean }): number[] {
  const scales = SCALES[scale]?.data ?? Float32Array.of(1);
  const bias = numbers([OUT], 4).data;
  return Array.from({ length: ROWS * OUT }, (_, at) => {
    const [row, out] = [Math.floor(at / OUT), at % OUT];
    const sum = Array.from({ length: IN }, (_, k) => x[row * IN + k]! * weights[out * IN + k]!).reduce(
      (a, b) => a + b,
      0,
    );
    return sum * (scales[out] ?? scales[0]!) + (hasBias ? bias[out]! : 0);
  });
}

describe.each(Object.keys(SCALES))("with %s for a scale", (scale) => {
  test.each([true, false])("the operator gets what the layer's file says (with a bias: %s)", async (hasBias) => {
    const graph = await layer({ scale, hasBias });
    expect(graph.nodes.filter(({ operator }) => operator === OPERATOR)).toHaveLength(1);
    expect(missingKernels(graph, "cuda")).toEqual([]);
    const engine = roundedEngine(await directEngine({ provider: "cpu", index: 0, threads: 1 }));
    // Numbers that bfloat16 holds.
    const x = float32(
      [ROWS, IN],
      Float32Array.from({ length: ROWS * IN }, (_, at) => ((at * 29) % 65) / 32 - 1),
    );
    const found = await withSession(engine, await modelOf(graph, "none"), (session) => session.run({ x }));
    expect(scaledError(found["y"]!.data as Float32Array, wanted(x.data, { scale, hasBias }))).toBeLessThanOrEqual(
      ROUNDING,
    );
  });
});

test("in float32 weights are cast", async () => {
  const { nodes } = await layer({ scale: "none", hasBias: true, compute: "f32" });
  expect(nodes.map(({ operator }) => operator)).toEqual(["Cast", "Gemm", "Identity"]);
});

test("at full size every product with 8-bit weights is one node, and none of them is cast", () => {
  const checkpoint = published("qwen_image_edit_2509_fp8_e4m3fn");
  const config = transformerConfig(numbersOf(checkpoint), {});
  const graph = (forms: readonly GraphForm[]) =>
    build(
      checkpoint,
      [
        (each, w) =>
          buildTransformer(each, w, {
            config,
            compute: "bf16",
            blocks: { from: 0, to: config.blocks },
            isModulationFed: true,
          }),
      ],
      { forms },
    ).graphs[0]!;
  const [cast, one] = [graph([]), graph([multiplyFp8])];
  const matrices = [...one.externals]
    .filter(([, { dtype, shape }]) => dtype === "f8_e4m3" && shape.length === 2)
    .map(([name]) => name);
  expect(
    one.nodes
      .filter(({ operator }) => operator === OPERATOR)
      .map(({ inputs }) => inputs[1])
      .sort(),
  ).toEqual(matrices.sort());
  expect(one.nodes.some(({ operator, inputs }) => operator === "Cast" && matrices.includes(inputs[0]!))).toBe(false);
  expect(cast.nodes.length - one.nodes.length).toBe(matrices.length);
});
