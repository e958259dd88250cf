// What exported graphs ask of a server's ONNX Runtime: its version 1.27 has all of these operators, at these versions of the operator sets.
import { expect, test } from "vitest";
import { stageModels } from "../../src/export/triton/stage-models.js";
import { withInnerNodes } from "../../src/graph/node.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { Message } from "../graph/protobuf.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { CPU, openFiles } from "./exported.js";

const ONNX = [
  ...["Add", "Attention", "Cast", "Clip", "Concat", "Conv", "Cos", "CumSum", "Div", "Equal", "Floor", "Gather", "Gelu"],
  ...["Gemm", "GreaterOrEqual", "Identity", "If", "LayerNormalization", "Loop", "MatMul", "Max", "Min", "Mul"],
  ...[
    "RMSNormalization",
    "Range",
    "ReduceSum",
    "Reshape",
    "Resize",
    "RotaryEmbedding",
    "Shape",
    "Sin",
    "Slice",
    "Split",
  ],
  ...["Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"],
];
/** Of Qwen-Image-2.1 alone. */
const ONNX_2 = ["Compress", "Tanh"];
const MICROSOFT = ["com.microsoft.MultiHeadAttention", "com.microsoft.QuickGelu"];

const FILES = {
  transformer: "tiny/transformer-2511",
  loras: [{ name: "tiny/loras/published", strength: 1 }],
};
const textEncoder = (await tinyTextEncoder2()).replace(/\.safetensors$/, "");
const FILES_2 = { vae: "tiny-2/vae", textEncoder, transformer: "tiny-2/transformer" };

const models = (
  await Promise.all(
    (["f32", "bf16"] as const).flatMap((type) =>
      [FILES, FILES_2].map(async (names) =>
        stageModels(await openFiles(names), {
          ...{ images: 3, hasCfg: true, cfgNorm: 1, device: CPU },
          compute: { vae: type === "bf16" ? "f16" : "f32", textEncoder: type, transformer: type },
        }),
      ),
    ),
  )
).flat();

test("exported graphs consist of these operators", () => {
  const nodes = models.flatMap(({ graph }) => withInnerNodes(graph.nodes));
  const names = new Set(nodes.map(({ domain, operator }) => (domain === "" ? operator : `${domain}.${operator}`)));
  expect([...names].sort()).toEqual([...ONNX, ...ONNX_2, ...MICROSOFT].sort());
});

test("exported graphs are of IR version 11, opset 23 and version 1 of com.microsoft", () => {
  for (const { graph } of models) {
    // ModelProto: 1 ir_version, 8 opset_import; OperatorSetIdProto: 1 domain, 2 version.
    const model = new Message(encodeModel(graph));
    expect(model.numbers(1)).toEqual([11]);
    expect(model.messages(8).map((set) => [set.text(1), set.numbers(2)[0]])).toEqual([
      ["", 23],
      ["com.microsoft", 1],
    ]);
  }
});

test("cosines and sines of float64, which 1.27 has no kernels for, are in no graph", () => {
  for (const { graph } of models) {
    const types = new Map(graph.values.map(({ name, dtype }) => [name, dtype]));
    const wide = graph.nodes.filter(
      ({ operator, outputs }) => ["Cos", "Sin"].includes(operator) && types.get(outputs[0]!) !== "f32",
    );
    expect(wide).toEqual([]);
  }
});
