// Other forms of the transformer's graph against the form that it is written in: the same numbers by other nodes.
import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  addBiasInGelu,
  addGatedBiasInLayerNorm,
  addInLayerNorm,
  addLorasApart,
  type GraphForm,
  widenVectors,
} from "../../bench/graph-forms.js";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { stripPrefix } from "../../src/checkpoint/published-names.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import type { Adapter, Weights } from "../../src/checkpoint/weights.js";
import type { Graph } from "../../src/graph/graph.js";
import { ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import type { BlockRange } from "../../src/models/transformer-family.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { float32, type Tensors } from "../../src/std/tensor.js";
import { temporaryFolder } from "../checkpoint/folder.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { build, published, publishedLora } from "../support/full-size.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

/** float32 sums in another order: some units in the last place of the largest value. */
const SAME = 1e-6;

const path = temporaryFolder();

/** LoRA files and their strengths. */
type Loras = readonly (readonly [file: string, strength: number])[];

interface Way {
  readonly loras?: Loras;
  /** Whether the LoRAs are added apart, after the graph is built. */
  readonly isApart?: boolean;
  readonly forms?: readonly GraphForm[];
  /** Blocks of each graph, one after the other; all in one unless given. */
  readonly ranges?: readonly BlockRange[];
}

async function velocity(name: string, { loras = [], isApart = false, forms = [], ranges }: Way) {
  const checkpoint = stripPrefix(await readSafetensors(fixture(`tiny/${name}.safetensors`)));
  const config = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const adapters: Adapter[] = [];
  const strengths: Record<string, Tensors[string]> = {};
  for (const [index, [file, strength]] of loras.entries()) {
    adapters.push({
      name: `lora_strength.${index}`,
      modules: (await matchLora(await readSafetensors(file), checkpoint)).matched,
    });
    strengths[`lora_strength.${index}`] = float32([1], Float32Array.of(strength));
  }
  const [target, reference] = [
    { rows: 3, columns: 4 },
    { rows: 2, columns: 5 },
  ];
  const { cos, sin } = ropeTables(7, [target, reference], config);
  const feeds = {
    latent_tokens: numbers([1, 12, config.patchWidth], 1),
    reference_tokens: numbers([1, 10, config.patchWidth], 2),
    prompt_embeds: numbers([1, 7, config.textWidth], 3),
    timestep: float32([1], Float32Array.of(0.83)),
    rope_cos: cos,
    rope_sin: sin,
    ...strengths,
  };
  const inForm = isApart
    ? { forms: [(graph: Graph) => addLorasApart(graph, adapters), ...forms] }
    : { adapters, forms };
  let given: Tensors = {};
  for (const blocks of ranges ?? [{ from: 0, to: config.blocks }]) {
    const build = (graph: Graph, w: Weights) => buildTransformer(graph, w, { config, compute: "f32", blocks });
    await using opened = await openNetwork(checkpoint, { build, optimization: "none", ...inForm });
    given = await opened.session.run({ ...feeds, ...given });
  }
  return given["velocity"]!.data as Float32Array;
}

function fullSize({
  isLightning = false,
  forms = [],
  referencesAtZero = false,
}: {
  isLightning?: boolean;
  forms?: readonly GraphForm[];
  referencesAtZero?: boolean;
}) {
  const checkpoint = published("qwen_image_edit_2509_fp8_e4m3fn");
  const config = { ...transformerConfig(numbersOf(checkpoint), {}), referencesAtZero };
  const blocks = { from: 0, to: config.blocks };
  return build(
    checkpoint,
    [(graph, w) => buildTransformer(graph, w, { config, compute: "bf16", blocks, isModulationFed: true })],
    { adapters: isLightning ? [publishedLora()] : [], forms },
  ).graphs[0]!;
}

describe("stacked LoRAs", () => {
  const folder = fixture("tiny/loras");
  const files = readdirSync(folder).filter((name) => name.endsWith(".safetensors"));
  const file = (name: string) => `${folder}/${name}.safetensors`;

  const difference = async (loras: Loras, name = "transformer") => {
    const [found, wanted, none] = [
      await velocity(name, { loras }),
      await velocity(name, { loras, isApart: true }),
      await velocity(name, {}),
    ];
    expect(scaledError(none, wanted)).toBeGreaterThan(100 * SAME);
    return scaledError(found, wanted);
  };

  test.each(files)("give with %s what LoRAs apart give", async (name) => {
    expect(await difference([[`${folder}/${name}`, 0.7]])).toBeLessThanOrEqual(SAME);
  });

  test.each(["transformer", "transformer-scaled-fp8", "transformer-2511", "transformer-bf16"])(
    "give with three files on %s what LoRAs apart give",
    async (name) => {
      expect(
        await difference(
          [
            [file("published"), 0.7],
            [file("second"), -0.4],
            [file("alpha-i64"), 1.3],
          ],
          name,
        ),
      ).toBeLessThanOrEqual(SAME);
    },
  );

  test("give the same where modules have unlike ranks, alphas and types, or none", async () => {
    const pair = (
      module: string,
      [out, into]: readonly [number, number],
      { rank, seed }: { rank: number; seed: number },
    ) => ({
      [`${module}.lora_up.weight`]: numbers([out, rank], seed),
      [`${module}.lora_down.weight`]: {
        ...numbers([rank, into], seed + 1),
        ...(seed % 2 ? { storedAs: "BF16" as const } : {}),
      },
      [`${module}.alpha`]: float32([], Float32Array.of(0.1 * seed)),
    });
    const { tensors } = await readSafetensors(fixture("tiny/transformer.safetensors"));
    const shape = (module: string) => tensors.get(`${module}.weight`)!.shape as [number, number];
    const block = "transformer_blocks.0.attn";
    const modules = [
      `${block}.to_v`,
      `${block}.to_q`,
      `${block}.add_k_proj`,
      "transformer_blocks.1.attn.to_k",
      "transformer_blocks.1.img_mlp.net.2",
      "img_in",
      "proj_out",
    ];
    await writeSafetensors(
      path("unlike.safetensors"),
      Object.assign(
        {},
        ...modules.map((module, index) => pair(module, shape(module), { rank: index + 1, seed: index + 2 })),
      ),
    );
    expect(
      await difference([
        [path("unlike.safetensors"), 0.3],
        [file("second"), 1],
      ]),
    ).toBeLessThanOrEqual(SAME);
  });

  test("take less than half the nodes of LoRAs apart, at full size", () => {
    const bare = fullSize({}).nodes.length;
    const [stacked, apart] = [
      fullSize({ isLightning: true }),
      fullSize({ forms: [(graph) => addLorasApart(graph, [publishedLora()])] }),
    ].map(({ nodes }) => nodes.length - bare);
    // Of 716 modules, apart: a scale, two products, a Mul and an Add, and for the scale in 16 bits a Cast.
    expect(apart).toBe(6 * 716);
    expect(stacked).toBeLessThan(apart! / 2);
  });

  test("read each input once: two products down for the six projections of a block", () => {
    const { nodes, externals } = fullSize({ isLightning: true });
    const downs = new Set([...externals.keys()].filter((name) => name.endsWith(".down")));
    const joined = nodes.filter(
      ({ operator, inputs }) => operator === "Concat" && inputs.some((name) => downs.has(name)),
    );
    expect(joined.filter(({ inputs }) => inputs.length === 3)).toHaveLength(2 * 59);
    // Of the last block, keys and values of both streams.
    expect(joined.filter(({ inputs }) => inputs.length === 2)).toHaveLength(2);
  });
});

describe("residuals added in the normalisation", () => {
  const TRANSFORMERS = ["transformer", "transformer-scaled-fp8", "transformer-2511"];
  const ONE_BY_ONE = [
    { from: 0, to: 1 },
    { from: 1, to: 2 },
  ];

  test.each(TRANSFORMERS)(
    "gives on %s what an Add and a LayerNormalization give, whole and cut between blocks",
    async (name) => {
      const wanted = await velocity(name, {});
      const found = await velocity(name, { forms: [addInLayerNorm] });
      expect(scaledError(found, wanted)).toBeLessThanOrEqual(SAME);
      expect(found).not.toEqual(wanted);
      expect(
        scaledError(await velocity(name, { forms: [addInLayerNorm], ranges: ONE_BY_ONE }), wanted),
      ).toBeLessThanOrEqual(SAME);
    },
  );

  test.each([
    [false, 238],
    // Target and references each have their own.
    [true, 356],
  ])("takes a node less for every residual at full size (references at 0: %s)", (referencesAtZero, residuals) => {
    const [apart, one] = [fullSize({ referencesAtZero }), fullSize({ referencesAtZero, forms: [addInLayerNorm] })];
    const count = ({ nodes }: Graph, wanted: string) => nodes.filter(({ operator }) => operator === wanted).length;
    expect(count(apart, "Add")).toBe(residuals);
    expect([count(one, "Add"), count(one, "SkipLayerNormalization")]).toEqual([0, residuals]);
    expect(apart.nodes.length - one.nodes.length).toBe(residuals);
  });
});

const NORMS_AND_GATES = (graph: Graph) => {
  addInLayerNorm(graph);
  addGatedBiasInLayerNorm(graph);
};

describe.each([
  ["biases and norms widened when the graph is built", widenVectors],
  ["biases before GELU in FastGelu", addBiasInGelu],
  ["gated biases in the normalisation", NORMS_AND_GATES],
  [
    "all of them",
    (graph: Graph) => {
      for (const form of [NORMS_AND_GATES, addBiasInGelu, widenVectors]) form(graph);
    },
  ],
] as const)("%s", (_, form) => {
  test.each(["transformer", "transformer-scaled-fp8", "transformer-2511", "transformer-bf16"])(
    "give on %s what the graph gives as it is written",
    async (name) => {
      const before = await nodesWith(name, []);
      // The tensors of 2511 are float32 here: nothing is widened.
      if (name !== "transformer-2511" || form !== widenVectors)
        expect(await nodesWith(name, [form])).not.toEqual(before);
      expect(scaledError(await velocity(name, { forms: [form] }), await velocity(name, {}))).toBeLessThanOrEqual(SAME);
    },
  );
});

async function nodesWith(name: string, forms: readonly GraphForm[]): Promise<string[]> {
  const checkpoint = stripPrefix(await readSafetensors(fixture(`tiny/${name}.safetensors`)));
  const config = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const { graphs } = build(checkpoint, [(graph, w) => buildTransformer(graph, w, { config, compute: "f32" })], {
    forms,
  });
  return graphs[0]!.nodes.map(({ operator, inputs }) => `${operator} of ${inputs.length}`);
}

test("forms change at full size what they are for", () => {
  const count = ({ nodes }: Graph, wanted: string, inputs?: number) =>
    nodes.filter((node) => node.operator === wanted && (inputs === undefined || node.inputs.length === inputs)).length;
  const [plain, gelu, gates] = [[], [addBiasInGelu], [NORMS_AND_GATES]].map((forms) => fullSize({ forms }));
  // Of both streams, but of the last block's text.
  expect([count(plain!, "Gelu"), count(gelu!, "Gelu"), count(gelu!, "FastGelu", 2)]).toEqual([119, 0, 119]);
  expect(count(plain!, "Gemm", 3) - count(gelu!, "Gemm", 3)).toBe(119);
  expect(count(gates!, "SkipLayerNormalization", 5)).toBe(238);
  expect(count(plain!, "Gemm", 3) - count(gates!, "Gemm", 3)).toBe(238);
});
