// Every node of the published networks has a kernel on each provider, in each compute type.
import { describe, expect, test } from "vitest";
import {
  addBiasInGelu,
  addGatedBiasInLayerNorm,
  addInLayerNorm,
  addLorasApart,
  type GraphForm,
  multiplyFp8,
} from "../../bench/graph-forms.js";
import { KERNELS } from "../../fixtures/kernels/kernel-table.js";
import { missingKernels } from "../../fixtures/kernels/kernels.js";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { installedRelease } from "../../src/engine/cuda/release.js";
import { stageModels } from "../../src/export/triton/stage-models.js";
import { loop } from "../../src/graph/control-flow.js";
import { Graph } from "../../src/graph/graph.js";
import { OPSET, upsampleNearest2x } from "../../src/graph/operators.js";
import type { DType } from "../../src/graph/types.js";
import { buildModulation } from "../../src/models/qwen-image/modulation.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower } from "../../src/models/qwen2.5-vl/vision.js";
import { transformerOf } from "../../src/models/transformers.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../src/models/vaes.js";
import type { ActiveLora } from "../../src/stages/networks/loras.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { asGguf, type Build, build, everyKind, published, publishedLora } from "../support/full-size.js";

/** The graph forms that are not the default. */
const OTHER_FORMS: readonly GraphForm[] = [
  lightningApart,
  multiplyFp8,
  addInLayerNorm,
  addGatedBiasInLayerNorm,
  addBiasInGelu,
];

function lightningApart(graph: Graph): void {
  addLorasApart(graph, [publishedLora()]);
}

/** Least nodes of a whole network. */
const MIN_NODES = { vae: 300, vision: 800, language: 700, transformer: 5000 };

function vae(build: typeof buildVaeEncoder, compute: DType): Build {
  return (graph, w) => build(graph, w, { compute });
}

function graphOf(name: "qwen_image_vae" | "qwen_image_2.1_vae_bf16" | "qwen_2.5_vl_7b_fp8_scaled", each: Build): Graph {
  return build(published(name), [each]).graphs[0]!;
}

function textEncoder(compute: DType): { vision: Graph; language: Graph } {
  const numbers = numbersOf(published("qwen_2.5_vl_7b_fp8_scaled"));
  const [vision, language] = [visionConfig(numbers, {}), languageConfig(numbers, {})];
  return {
    vision: graphOf("qwen_2.5_vl_7b_fp8_scaled", (graph, w) => buildVisionTower(graph, w, { config: vision, compute })),
    language: graphOf("qwen_2.5_vl_7b_fp8_scaled", (graph, w) =>
      buildLanguageModel(graph, w, { config: language, compute }),
    ),
  };
}

interface Variant {
  readonly referencesAtZero?: boolean;
  readonly isLightning?: boolean;
  readonly forms?: readonly GraphForm[];
}

function transformer(
  compute: DType,
  { referencesAtZero = false, isLightning = false, forms = [] }: Variant = {},
): Graph {
  const checkpoint = published("qwen_image_edit_2509_fp8_e4m3fn");
  const config = { ...transformerConfig(numbersOf(checkpoint), {}), referencesAtZero };
  return build(checkpoint, [(graph, w) => buildTransformer(graph, w, { config, compute })], {
    adapters: isLightning ? [publishedLora()] : [],
    forms,
  }).graphs[0]!;
}

describe.each([
  ["cuda", ["f32", "f16"]],
  ["cpu", ["f32"]],
] as const)("on %s", (provider, types) => {
  test.each(types)("the VAE has a kernel for every node in %s", (compute) => {
    const toBytes: typeof buildVaeEncoder = (graph, w, options) =>
      buildVaeDecoder(graph, w, { ...options, quantization: "round" });
    for (const each of [buildVaeEncoder, buildVaeDecoder, toBytes]) {
      for (const name of ["qwen_image_vae", "qwen_image_2.1_vae_bf16"] as const) {
        const graph = graphOf(name, vae(each, compute));
        expect(graph.nodes.length).toBeGreaterThan(MIN_NODES.vae);
        expect(missingKernels(graph, provider)).toEqual([]);
      }
    }
  });
});

describe.each([
  ["cuda", "f32"],
  ["cuda", "bf16"],
  ["cpu", "f32"],
] as const)("on %s in %s", (provider, compute) => {
  test("the vision tower and the language model have a kernel for every node", () => {
    const { vision, language } = textEncoder(compute);
    expect(vision.nodes.length).toBeGreaterThan(MIN_NODES.vision);
    expect(language.nodes.length).toBeGreaterThan(MIN_NODES.language);
    expect([...missingKernels(vision, provider), ...missingKernels(language, provider)]).toEqual([]);
  });

  test.each([
    ["2509", {}],
    ["2509 with a LoRA", { isLightning: true }],
    ["2511", { referencesAtZero: true }],
    ["2511 with a LoRA", { referencesAtZero: true, isLightning: true }],
    ["2509 with weights of 8 bits in one operator", { forms: [multiplyFp8] }],
    [
      "2511 with weights of 8 bits in one operator and a LoRA",
      { referencesAtZero: true, isLightning: true, forms: [multiplyFp8] },
    ],
    ["2509 with residuals in its normalisations", { forms: [addInLayerNorm] }],
    ["2511 with residuals in its normalisations", { referencesAtZero: true, forms: [addInLayerNorm] }],
    ["2509 with a LoRA apart", { forms: [lightningApart] }],
    ["2511 with a LoRA in all the other forms", { referencesAtZero: true, forms: OTHER_FORMS }],
  ])("the transformer of %s has a kernel for every node", (_, variant) => {
    const graph = transformer(compute, variant);
    expect(graph.nodes.length).toBeGreaterThan(MIN_NODES.transformer);
    expect(missingKernels(graph, provider)).toEqual([]);
  });
});

describe.each([
  ["cuda", "f32"],
  ["cuda", "bf16"],
  ["cpu", "f32"],
] as const)("quantised as GGUF, on %s in %s", (provider, compute) => {
  const types = Object.keys(BLOCK_TYPES) as BlockTypeName[];

  test.each([
    ["in fp8", published("qwen_image_edit_2509_fp8_e4m3fn")],
    ["in blocks of GGUF", asGguf(published("qwen_image_edit_2509_fp8_e4m3fn"), types)],
  ])("adapters of every kind beside weights %s have a kernel for every node", (_, checkpoint) => {
    const config = transformerConfig(numbersOf(checkpoint), {});
    const blocks = { from: 0, to: 4 };
    const { graphs } = build(
      checkpoint,
      [
        (graph, w) => buildTransformer(graph, w, { config, compute, blocks }),
        (graph, w) => buildModulation(graph, w, { config, compute, blocks }),
      ],
      { adapters: [publishedLora(), everyKind(checkpoint)] },
    );
    expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
  });

  test("the transformer has a kernel for every node, whole and in parts", () => {
    const checkpoint = asGguf(published("qwen_image_edit_2509_fp8_e4m3fn"), types);
    const config = transformerConfig(numbersOf(checkpoint), {});
    const blocks = { from: 0, to: 2 };
    const { graphs } = build(
      checkpoint,
      [
        (graph, w) => buildTransformer(graph, w, { config, compute }),
        (graph, w) => buildTransformer(graph, w, { config, compute, blocks, isModulationFed: true }),
        (graph, w) => buildModulation(graph, w, { config, compute, blocks }),
      ],
      { adapters: [publishedLora()] },
    );
    expect(graphs[0]!.nodes.some(({ operator }) => operator === "MatMulNBits")).toBe(true);
    expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
  });

  test("the vision tower and the language model have a kernel for every node", () => {
    const checkpoint = asGguf(published("qwen_2.5_vl_7b_fp8_scaled"), types);
    const [vision, language] = [visionConfig(numbersOf(checkpoint), {}), languageConfig(numbersOf(checkpoint), {})];
    const { graphs } = build(checkpoint, [
      (graph, w) => buildVisionTower(graph, w, { config: vision, compute }),
      (graph, w) => buildLanguageModel(graph, w, { config: language, compute }),
    ]);
    expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
  });
});

describe.each([
  ["cuda", "bf16"],
  ["cuda", "f32"],
  ["cpu", "f32"],
] as const)("in parts on %s in %s", (provider, compute) => {
  test.each([
    ["qwen_image_edit_2509_fp8_e4m3fn", "whole"],
    ["qwen_image_2.1_bf16", "whole"],
    ["qwen_image_2.1_bf16", "step"],
  ] as const)("the step cache of %s, computed %s, has a kernel for every node", (name, part) => {
    const checkpoint = published(name);
    const network = transformerOf(numbersOf(checkpoint), {});
    const { blocks } = network;
    const graphsOf = [
      { stepCache: "head", blocks: { from: 0, to: 1 } },
      { stepCache: "tail", blocks: { from: 1, to: 3 } },
      { stepCache: "tail", blocks: { from: blocks - 2, to: blocks } },
    ] as const;
    for (const isModulationFed of [false, true]) {
      const builds = graphsOf.map(
        (each): Build =>
          (graph, w) =>
            network.build(graph, w, { ...each, compute, part, isModulationFed, references: 1 }),
      );
      const { graphs } = build(checkpoint, builds);
      expect(graphs[0]!.outputs.has("velocity")).toBe(true);
      expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
    }
  });

  test("groups of blocks with fed modulation, the modulation and groups of layers have a kernel for every node", () => {
    const [checkpoint, text] = [published("qwen_image_edit_2509_fp8_e4m3fn"), published("qwen_2.5_vl_7b_fp8_scaled")];
    const language = languageConfig(numbersOf(text), {});
    for (const referencesAtZero of [false, true]) {
      const config = { ...transformerConfig(numbersOf(checkpoint), {}), referencesAtZero };
      for (const blocks of [
        { from: 0, to: 2 },
        { from: 30, to: 34 },
        { from: 58, to: 60 },
      ]) {
        for (const options of [{ adapters: [publishedLora()] }, { forms: OTHER_FORMS }]) {
          const builds: Build[] = [
            (graph, w) => buildTransformer(graph, w, { config, compute, blocks, isModulationFed: true }),
            (graph, w) => buildModulation(graph, w, { config, compute, blocks }),
          ];
          const { graphs } = build(checkpoint, builds, options);
          expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
        }
      }
    }
    const { graphs } = build(
      text,
      [0, 12, 26].map(
        (from): Build =>
          (graph, w) =>
            buildLanguageModel(graph, w, { config: language, compute, layers: { from, to: from + 2 } }),
      ),
    );
    expect(graphs.flatMap((graph) => missingKernels(graph, provider))).toEqual([]);
  });
});

test("the parts of a VAE on tiles have a kernel for every node", () => {
  for (const each of [buildVaeEncoder, buildVaeDecoder]) {
    for (const part of ["global", "local"] as const) {
      for (const [provider, compute] of [
        ["cuda", "f16"],
        ["cuda", "f32"],
        ["cpu", "f32"],
      ] as const) {
        expect(
          missingKernels(
            graphOf("qwen_image_vae", (graph, w) => each(graph, w, { compute, part })),
            provider,
          ),
        ).toEqual([]);
      }
    }
  }
});

test("the VAE in bf16 has no kernel for Resize alone", () => {
  const decoder = missingKernels(graphOf("qwen_image_vae", vae(buildVaeDecoder, "bf16")), "cuda");
  expect(new Set(decoder.map(({ operator, reason }) => `${operator}: ${reason}`))).toEqual(
    new Set(["Resize: no bf16 for T"]),
  );
  expect(decoder).toHaveLength(3);
});

test("the transformer in bf16 has no kernel for Gemm on the CPU", () => {
  expect(missingKernels(transformer("bf16"), "cpu").map(({ operator }) => operator)).toContain("Gemm");
});

describe("one node", () => {
  const picture = (compute: DType) => {
    const graph = new Graph("one");
    return { graph, x: graph.input("x", "f32", [1, 4, "h", "w"]).cast(compute) };
  };

  test("a type without a kernel is reported, with the node and its type variable", () => {
    const { graph, x } = picture("bf16");
    upsampleNearest2x(x);
    expect(missingKernels(graph, "cuda")).toEqual([{ node: "Resize", operator: "Resize", reason: "no bf16 for T" }]);
  });

  test("an operator that the table lacks is missing", () => {
    const { graph, x } = picture("f32");
    graph.node("Einsum", [x], { shapes: [x.shape], dtype: "f32" });
    expect(missingKernels(graph, "cuda")).toMatchObject([
      { operator: "Einsum", reason: expect.stringContaining("does not know") },
    ]);
  });

  test("two types for one type variable are missing", () => {
    const { graph, x } = picture("f32");
    graph.node("Add", [x, x.cast("f16")], { shapes: [x.shape], dtype: "f32" });
    expect(missingKernels(graph, "cuda")).toMatchObject([{ operator: "Add", reason: "T is both f32 and f16" }]);
  });

  test("an input that the signature does not have is missing", () => {
    const { graph, x } = picture("f32");
    graph.node("Sqrt", [x, x], { shapes: [x.shape], dtype: "f32" });
    expect(missingKernels(graph, "cuda")).toMatchObject([{ operator: "Sqrt" }]);
  });
});

test("the table is for the release and the opset that qedit uses", () => {
  expect([KERNELS.release, KERNELS.opset]).toEqual([installedRelease().version, OPSET]);
});

test("nodes inside a loop are looked at as well", () => {
  const graph = new Graph("looped");
  const picture = graph.input("x", "f32", [1, 4, "h", "w"]).cast("bf16");
  const once = { trips: graph.input("trips", "i64", [1]), carried: [{ initial: picture }] };
  loop(graph, once, ([x]) => [x!.add(upsampleNearest2x(x!).sum())]);
  expect(missingKernels(graph, "cuda")).toContainEqual({ node: "Resize", operator: "Resize", reason: "no bf16 for T" });
});

/** On the host by ONNX Runtime's choice, and types that the table does not tell: it drops a Cast between two others. */
const BESIDE = new Set(["Range: no i64 for T", "Cast: no f64 for T1", "Cast: no f64 for T2"]);

test.each([
  ["cuda", "bf16", "f16"],
  ["cuda", "f32", "f32"],
  ["cpu", "f32", "f32"],
] as const)(
  "exported models have a kernel for every node on %s in %s, inside their loops too",
  (provider, type, vae) => {
    const file = (name: Parameters<typeof published>[0]) => ({
      checkpoint: published(name),
      config: {},
      identity: name,
      ...{ stamps: new Map(), lookups: [], states: [] },
      name,
    });
    const files = {
      ...{ vae: file("qwen_image_vae"), textEncoder: file("qwen_2.5_vl_7b_fp8_scaled") },
      ...{
        transformer: file("qwen_image_edit_2511_bf16"),
        loras: [publishedLora(), everyKind(published("qwen_image_edit_2511_bf16"))].map(
          (adapter) => ({ adapter, strength: 0.5 }) as ActiveLora,
        ),
      },
    };
    const models = stageModels(files, {
      ...{ images: 3, hasCfg: true, cfgNorm: 1, device: { provider, index: 0, threads: 0 } },
      compute: { vae, textEncoder: type, transformer: type },
    });
    const missing = models.flatMap(({ graph }) => missingKernels(graph, provider));
    expect(missing.filter(({ operator, reason }) => !BESIDE.has(`${operator}: ${reason}`))).toEqual([]);
  },
);

test("weights in 8-bit floats that are looked up have a kernel for every node on the CPU, in bodies too", () => {
  const [checkpoint, text] = [published("qwen_image_edit_2509_fp8_e4m3fn"), published("qwen_2.5_vl_7b_fp8_scaled")];
  const [numbers, config] = [numbersOf(text), transformerConfig(numbersOf(checkpoint), {})];
  const options = { widening: "look-up" } as const;
  const { graphs } = build(checkpoint, [(graph, w) => buildTransformer(graph, w, { config, compute: "f32" })], options);
  const encoder = build(
    text,
    [
      (graph, w) => buildVisionTower(graph, w, { config: visionConfig(numbers, {}), compute: "f32" }),
      (graph, w) => buildLanguageModel(graph, w, { config: languageConfig(numbers, {}), compute: "f32" }),
    ],
    options,
  );
  for (const graph of [...graphs, ...encoder.graphs]) {
    expect(graph.nodes.some(({ operator }) => operator === "Scan")).toBe(true);
    expect(missingKernels(graph, "cpu")).toEqual([]);
  }
});
