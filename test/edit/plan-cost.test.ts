// What plans count by walking graphs, against counts made another way: from the tensors of the files, and from ONNX Runtime's own profile.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { fileBytes, PUBLISHED, type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { graphFlops, lengthsOf, weightBytes } from "../../src/edit/plan/graph-cost.js";
import { assumedCheckpoint, type Layout } from "../../src/edit/plan/layouts.js";
import { liveBytes } from "../../src/engine/memory/run-memory.js";
import { Graph } from "../../src/graph/graph.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { nodesOfWeights } from "../../src/graph/weight-nodes.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower } from "../../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../src/models/vaes.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { fixture } from "../support/golden.js";

/** Share by which the two counts may differ. */
const CLOSE = 0.01;

/** Families of models, as the catalogue names them. */
const [FIRST, LATER] = ["Qwen-Image", "Qwen-Image-2.1"];

const FILES: Readonly<Record<Layout, PublishedName>> = {
  vae: "qwen_image_vae",
  textEncoder: "qwen_2.5_vl_7b_fp8_scaled",
  transformer: "qwen_image_edit_2509_fp8_e4m3fn",
  lightning: "lightning_lora_bf16",
};

const published = (layout: Layout): Checkpoint =>
  assumedCheckpoint(layout, { family: FIRST, file: layout, bytes: PUBLISHED[FILES[layout]].bytes })!;
const tiny = (name: string): Promise<Checkpoint> => readSafetensors(fixture(`tiny/${name}.safetensors`));

// Two operations for each element of each matrix below a path, for each row.
function linearFlops({ tensors }: Checkpoint, pattern: RegExp, rows: number): number {
  const matrices = [...tensors].filter(([name, { shape }]) => pattern.test(name) && shape.length === 2);
  expect(matrices.length).toBeGreaterThan(0);
  return matrices.reduce((sum, [, { shape }]) => sum + 2 * shape[0]! * shape[1]! * rows, 0);
}

function transformer(checkpoint: Checkpoint, adapters: Parameters<typeof Weights.of>[2] = []): Graph {
  const graph = new Graph("the transformer");
  const config = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  buildTransformer(graph, Weights.of(graph, checkpoint, adapters), { config, compute: "f32" });
  return graph;
}

describe.each(["tiny", "published"])("the %s networks", (size) => {
  const open = async (layout: "vae" | "textEncoder" | "transformer"): Promise<Checkpoint> => {
    const names = { vae: "vae", textEncoder: "text-encoder", transformer: "transformer" };
    return size === "tiny" ? tiny(names[layout]) : published(layout);
  };

  test("the transformer: image and text linears by their rows, attention over all tokens", async () => {
    const checkpoint = await open("transformer");
    const { blocks, heads, headDim } = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
    const [text, target, reference] = [70, 400, 300];
    const all = text + target + reference;
    // Of the last block nobody reads the text or what becomes of the reference tokens.
    const last = (names: string) => new RegExp(`blocks\\.${blocks - 1}\\.(${names})`);
    const unread =
      linearFlops(checkpoint, last("attn\\.(to_q|to_out)|img_mlp"), reference) +
      linearFlops(checkpoint, last("attn\\.(add_q|to_add)|txt_mlp"), text) +
      4 * (text + reference) * all * heads * headDim;
    const byHand =
      linearFlops(checkpoint, /^img_in|blocks\.\d+\.(attn\.to_|img_mlp)/, target + reference) -
      linearFlops(checkpoint, /blocks\.\d+\.attn\.to_add_out/, target + reference) +
      linearFlops(checkpoint, /^txt_in|blocks\.\d+\.(attn\.(add_|to_add)|txt_mlp)/, text) +
      linearFlops(checkpoint, /^proj_out/, target) +
      linearFlops(checkpoint, /_mod\.|norm_out|time_text_embed/, 1) +
      4 * all ** 2 * heads * headDim * blocks -
      unread;
    expect(Math.abs(graphFlops(transformer(checkpoint), { text, target, reference }) / byHand - 1)).toBeLessThan(CLOSE);
  });

  test("the language model: all linears for every token, attention over all queries and keys", async () => {
    const checkpoint = await open("textEncoder");
    const config = languageConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
    const graph = new Graph("the language model");
    buildLanguageModel(graph, Weights.of(graph, checkpoint), { config, compute: "f32" });
    const byHand =
      linearFlops(checkpoint, /^model\.layers\..*(proj)\.weight/, 300) +
      4 * 300 ** 2 * config.heads * config.headDim * config.layers;
    expect(Math.abs(graphFlops(graph, { tokens: 300 }) / byHand - 1)).toBeLessThan(CLOSE);
  });

  test("the vision tower: patches through all blocks, tokens through the merger", async () => {
    const checkpoint = await open("textEncoder");
    const config = visionConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
    const graph = new Graph("the vision tower");
    buildVisionTower(graph, Weights.of(graph, checkpoint), { config, compute: "f32" });
    const [tokens, patches] = [50, 50 * config.mergeSize ** 2];
    const values = config.channels * config.temporalPatchSize * config.patchSize ** 2;
    const byHand =
      linearFlops(checkpoint, /^visual\.blocks/, patches) +
      linearFlops(checkpoint, /^visual\.merger/, tokens) +
      2 * patches * values * config.width +
      4 * patches ** 2 * config.width * config.blocks;
    expect(Math.abs(graphFlops(graph, { tokens }) / byHand - 1)).toBeLessThan(CLOSE);
  });

  // As the encoder's and decoder's keys are placed: what works at which share of the picture's sides.
  test.each(["encoder", "decoder"] as const)(
    "the VAE %s: kernels by the pixels they work on, one attention",
    async (side) => {
      const checkpoint = await open("vae");
      const graph = new Graph(`the VAE ${side}`);
      (side === "encoder" ? buildVaeEncoder : buildVaeDecoder)(graph, Weights.of(graph, checkpoint), {
        compute: "f32",
      });
      const [h, w] = [12, 20];
      const byHand = vaeFlops(checkpoint, side, h * w);
      expect(Math.abs(graphFlops(graph, { h, w }) / byHand - 1)).toBeLessThan(CLOSE);
    },
  );
});

// Cells of the latent are 1; an encoder starts at 4^halvings of them and a decoder ends there.
function vaeFlops({ tensors }: Checkpoint, side: "encoder" | "decoder", cells: number): number {
  const list = side === "encoder" ? "encoder.downsamples" : "decoder.upsamples";
  const resamples = [...tensors.keys()].flatMap((name) =>
    name.startsWith(list) && name.endsWith("resample.1.weight") ? [Number(name.split(".")[2])] : [],
  );
  const scaleAt = (index: number, isResample: boolean): number => {
    const before = resamples.filter((each) => each < index).length;
    if (side === "encoder") return 4 ** (resamples.length - before - (isResample ? 1 : 0));
    return 4 ** (before + (isResample ? 1 : 0));
  };
  const ends: Readonly<Record<string, number>> =
    side === "encoder"
      ? { "encoder.conv1.": 4 ** resamples.length, "encoder.head.": 1, "encoder.middle.": 1, "conv1.": 1 }
      : { "decoder.conv1.": 1, "decoder.head.": 4 ** resamples.length, "decoder.middle.": 1, "conv2.": 1 };
  let flops = 0;
  for (const [name, { shape }] of tensors) {
    if (!name.endsWith(".weight") || name.includes("time_conv")) continue;
    const end = Object.keys(ends).find((prefix) => name.startsWith(prefix));
    const scale = name.startsWith(`${list}.`)
      ? scaleAt(Number(name.split(".")[2]), name.includes("resample"))
      : end === undefined
        ? 0
        : ends[end]!;
    const [out, into] = shape as [number, number];
    flops += 2 * out * into * shape[shape.length - 1]! * shape[shape.length - 2]! * scale * cells;
    if (scale > 0 && name.includes("to_qkv")) flops += 4 * (cells * scale) ** 2 * into;
  }
  return flops;
}

test("a LoRA of rank 64 adds its two products on every module", () => {
  const checkpoint = published("transformer");
  const lora = published("lightning");
  const names = [...lora.tensors.keys()].flatMap((key) =>
    key.endsWith(".lora_up.weight") ? [key.slice(0, -".lora_up.weight".length)] : [],
  );
  const modules = new Map(
    names.map((name) => [
      name,
      {
        kind: "lora" as const,
        parts: {
          up: lora.tensors.get(`${name}.lora_up.weight`)!,
          down: lora.tensors.get(`${name}.lora_down.weight`)!,
        },
        scale: 1,
      },
    ]),
  );
  const lengths = { text: 70, target: 400, reference: 300 };
  const added =
    graphFlops(transformer(checkpoint, [{ name: "lora_strength.0", modules }]), lengths) -
    graphFlops(transformer(checkpoint), lengths);
  const byHand = linearFlops(lora, /to_[qkv]\.|to_out|img_mlp/, 700) + linearFlops(lora, /add_|txt_mlp/, 70);
  expect(Math.abs(added / byHand - 1)).toBeLessThan(CLOSE);
});

test.each(Object.entries(FILES) as [Layout, PublishedName][])(
  "the assumed layout of a missing %s is that of the published file",
  (layout, name) => {
    const assumed = [...published(layout).tensors].map(([key, { dtype, shape }]) => ({ name: key, dtype, shape }));
    expect(assumed).toEqual(publishedTensors(name));
    expect(Math.abs(fileBytes(assumed) / PUBLISHED[name].bytes - 1)).toBeLessThan(CLOSE);
  },
);

describe("the assumed layouts of Qwen-Image-2.1", () => {
  test.each([
    ["transformer", "qwen_image_2.1_bf16", 14_230_280_616],
    ["textEncoder", "qwen3vl_8b_bf16", 17_534_334_616],
    ["vae", "qwen_image_2.1_vae_bf16", 675_509_688],
  ] as const)("%s: those of the published file", (layout, name, bytes) => {
    const { tensors } = assumedCheckpoint(layout, { family: LATER, file: name, bytes })!;
    expect([...tensors].map(([key, { dtype, shape }]) => ({ name: key, dtype, shape }))).toEqual(
      publishedTensors(name),
    );
  });

  // Bytes of the files at huggingface.co/Comfy-Org/Qwen-Image-2.1.
  test.each([
    ["transformer", 7_256_783_064, "transformer_blocks.31.attn.to_q"],
    ["textEncoder", 9_350_798_360, "model.embed_tokens"],
  ] as const)("%s in INT8: matrices of the published size with a scale for each row", (layout, bytes, module) => {
    const { tensors } = assumedCheckpoint(layout, { family: LATER, file: "int8", bytes })!;
    const weight = tensors.get(`${module}.weight`)!;
    expect(weight).toMatchObject({ dtype: "I8", rotated: 256 });
    expect(tensors.get(`${module}.weight_scale`)).toMatchObject({ dtype: "F32", shape: [weight.shape[0], 1] });
    const total = [...tensors.values()].reduce((sum, { length }) => sum + length, 0);
    expect(Math.abs(total / bytes - 1)).toBeLessThan(0.0005);
  });
});

test("a missing file of twice the bytes is assumed to be bfloat16, one of other bytes is not guessed", () => {
  const wide = assumedCheckpoint("transformer", { family: FIRST, file: "bf16", bytes: 40_861_031_488 })!;
  expect(wide.tensors.get("img_in.weight")).toMatchObject({ dtype: "BF16" });
  expect(assumedCheckpoint("transformer", { family: FIRST, file: "gguf", bytes: 12e9 })).toBeUndefined();
  expect(assumedCheckpoint("transformer", { family: "of another", file: "x", bytes: undefined })).toBeUndefined();
});

test("lengths are read off what a graph is fed", () => {
  const graph = new Graph("a graph");
  graph.input("image", "f32", [1, 3, "8*h", "8*w"]);
  graph.input("tokens", "f32", ["n", 4]);
  expect(lengthsOf(graph, { image: [1, 3, 40, 24], tokens: [7, 4] })).toEqual({ h: 5, w: 3, n: 7 });
});

/** Widened weights that may wait at a time: those of the product that runs next, its bias, and a few that several products share. */
const MOST_WIDENED = 8;

// Nodes of weights that ran before another that reads their result, at most.
function mostWidened(graph: Graph, ran: readonly string[]): number {
  const ofWeights = nodesOfWeights(graph);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const readers = new Map<string, number>();
  for (const name of graph.nodes.flatMap(({ inputs }) => inputs)) readers.set(name, (readers.get(name) ?? 0) + 1);
  const waiting = new Map<string, number>();
  let most = 0;
  for (const node of ran.map((name) => nodes.get(name)!)) {
    for (const name of node.inputs) if (waiting.has(name)) waiting.set(name, waiting.get(name)! - 1);
    for (const [name, left] of waiting) if (left === 0) waiting.delete(name);
    if (ofWeights.has(node)) for (const name of node.outputs) waiting.set(name, readers.get(name)!);
    most = Math.max(most, waiting.size);
  }
  return most;
}

describe("a run", () => {
  test("widens few weights before their products, as ONNX Runtime orders the nodes", async () => {
    const folder = await mkdtemp(join(tmpdir(), "qedit-"));
    try {
      const graph = transformer(await tiny("transformer"));
      const session = await ort.InferenceSession.create(encodeModel(graph), {
        graphOptimizationLevel: "disabled",
        enableProfiling: true,
        profileFilePrefix: join(folder, "profile"),
        extra: { session: { model_external_initializers_file_folder_path: "/" } },
      });
      const lengths: Readonly<Record<string, number>> = {
        target: 4,
        reference: 6,
        text: 5,
        "text+target+reference": 15,
      };
      const feeds = [...graph.inputs.values()].map(({ name, shape }) => {
        const dims = shape.map((dim) => (typeof dim === "number" ? dim : lengths[dim]!));
        return [name, new ort.Tensor("float32", new Float32Array(dims.reduce((a, b) => a * b, 1)), dims)] as const;
      });
      await session.run(Object.fromEntries(feeds));
      session.endProfiling();
      const [profile] = await readdir(folder);
      const events = JSON.parse(await readFile(join(folder, profile!), "utf8")) as {
        cat: string;
        name: string;
        ts: number;
      }[];
      const ran = events
        .filter(({ cat, name }) => cat === "Node" && name.endsWith("_kernel_time"))
        .sort((a, b) => a.ts - b.ts);
      expect(nodesOfWeights(graph).size).toBeGreaterThan(5 * MOST_WIDENED);
      expect(
        mostWidened(
          graph,
          ran.map(({ name }) => name.slice(0, -"_kernel_time".length)),
        ),
      ).toBeLessThanOrEqual(MOST_WIDENED);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("widens a weight just before its product: 60 blocks take no more memory than 2", () => {
    const checkpoint = published("transformer");
    const few = {
      ...checkpoint,
      tensors: new Map([...checkpoint.tensors].filter(([name]) => !/^transformer_blocks\.([2-9]|\d\d)\./.test(name))),
    };
    const memory = (each: Checkpoint) =>
      liveBytes(transformer(each), { text: 100, target: 256, reference: 256 }, { isFolded: false, workspace: () => 0 });
    expect(memory(checkpoint)).toBeLessThan(memory(few) * 1.1);
    expect(memory(checkpoint)).toBeLessThan(1e9);
    expect(weightBytes(transformer(checkpoint))).toBeGreaterThan(20e9);
  });
});
