// Graphs of full size, from the headers of the published files.
import type { GraphForm } from "../../bench/graph-forms.js";
import { type DerivedName, type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import {
  type Checkpoint,
  elementsOf,
  STORED_BYTES,
  type StoredTensor,
  type StoredType,
} from "../../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import type { ModuleAdapter } from "../../src/checkpoint/lora/module-adapter.js";
import { asComputed } from "../../src/checkpoint/packed/packed-layout.js";
import { type Adapter, Weights } from "../../src/checkpoint/weights.js";
import { Graph } from "../../src/graph/graph.js";
import type { Widening } from "../../src/graph/types.js";

/** A published file as a checkpoint without a file behind it. */
export function published(name: PublishedName | DerivedName): Checkpoint {
  const tensors = new Map<string, StoredTensor>();
  let offset = 8;
  for (const { name: key, dtype, shape } of publishedTensors(name)) {
    const length = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
    tensors.set(key, { dtype, shape, file: `/models/${name}.safetensors`, offset, length });
    offset += length;
  }
  return { file: name, tensors, metadata: {} };
}

/** A checkpoint as it is computed with after its matrices were quantised by GGUF's types in turn, those of other shapes left as floats. */
export function asGguf(checkpoint: Checkpoint, types: readonly BlockTypeName[]): Checkpoint {
  let index = 0;
  const tensors = [...checkpoint.tensors]
    .filter(([name]) => !/(\.scale_(weight|input)|^scaled_fp8)$/.test(name))
    .map(([name, stored]): [string, StoredTensor] => {
      const type = types[index++ % types.length]!;
      const isMatrix = stored.shape.length === 2 && stored.shape[1]! % BLOCK_TYPES[type].elements === 0;
      const dtype: StoredType = isMatrix ? type : "F32";
      return [name, { ...stored, dtype, length: elementsOf(stored) * STORED_BYTES[dtype] }];
    });
  return asComputed({ ...checkpoint, tensors: new Map(tensors) });
}

/** The Lightning LoRA on all of its modules, as an adapter of the transformer. */
export function publishedLora(): Adapter {
  const lora = published("lightning_lora_bf16");
  const modules = [...lora.tensors.keys()]
    .filter((key) => key.endsWith(".lora_up.weight"))
    .map((key) => key.slice(0, -".lora_up.weight".length));
  const pairs = modules.map(
    (module) =>
      [
        module,
        {
          kind: "lora",
          parts: {
            up: lora.tensors.get(`${module}.lora_up.weight`)!,
            down: lora.tensors.get(`${module}.lora_down.weight`)!,
          },
          scale: 1,
        },
      ] as const,
  );
  return { name: "lora_strength.0", modules: new Map(pairs) };
}

type Shapes = Readonly<Partial<Record<keyof ModuleAdapter["parts"], readonly number[]>>>;

/** The parts of each kind for a weight [out, in] whose lengths divide by 64. */
const KINDS: readonly (readonly [kind: ModuleAdapter["kind"], shapes: (out: number, input: number) => Shapes])[] = [
  ["lora", (out, input) => ({ up: [out, 16], down: [16, input], up_bias: [out] })],
  ["lora", (out, input) => ({ up: [out, 16], down: [16, input], magnitude: [out] })],
  ["lora", (out, input) => ({ up: [out, 16], down: [16, input], magnitude: [1, input] })],
  [
    "loha",
    (out, input) => ({ hada_w1_a: [out, 8], hada_w1_b: [8, input], hada_w2_a: [out, 8], hada_w2_b: [8, input] }),
  ],
  ["lokr", (out, input) => ({ lokr_w1: [4, 4], lokr_w2: [out / 4, input / 4], magnitude: [out, 1] })],
  [
    "lokr",
    (out, input) => ({ lokr_w1_a: [4, 2], lokr_w1_b: [2, 4], lokr_w2_a: [out / 4, 8], lokr_w2_b: [8, input / 4] }),
  ],
  ["full", (out, input) => ({ diff: [out, input], diff_b: [out] })],
  ["oft", (out) => ({ oft_blocks: [out / 4, 4, 4], rescale: [out, 1] })],
  ["boft", (out) => ({ boft_blocks: [1, out / 4, 4, 4] })],
  ["inputOft", (_, input) => ({ oft_R: [input / 4, 6] })],
  ["inputBoft", (out, input) => ({ boft_R: [1, input / 4, 4, 4], boft_s: [out, 1] })],
];

/** An adapter of every kind in turn on the modules of a transformer, and differences of its norms, in types that files have. */
export function everyKind({ tensors }: Checkpoint, name = "lora_strength.1"): Adapter {
  const types = ["BF16", "F32", "F16", "F8_E4M3"] as const;
  let index = 0;
  const modules = [...tensors].flatMap(([key, { shape }]): [string, ModuleAdapter][] => {
    if (!key.endsWith(".weight") || shape.length > 2) return [];
    const [kind, shapesOf] =
      shape.length === 1 ? (["full", () => ({ diff: shape })] as const) : KINDS[index++ % KINDS.length]!;
    const dtype = types[index % types.length]!;
    const parts = Object.entries(shapesOf(shape[0]!, shape[1] ?? 1)).map(([part, each]): [string, StoredTensor] => [
      part,
      {
        dtype,
        shape: each,
        file: "/models/adapter.safetensors",
        offset: 8,
        length: elementsOf({ shape: each }) * STORED_BYTES[dtype],
      },
    ]);
    return [[key.slice(0, -".weight".length), { kind, parts: Object.fromEntries(parts), scale: 0.5 }]];
  });
  return { name, modules: new Map(modules) };
}

/** Adds one network to a graph. */
export type Build = (graph: Graph, w: Weights) => void;

/** Active LoRAs, and rewrites of each graph. */
export interface BuildOptions {
  readonly adapters?: readonly Adapter[];
  readonly forms?: readonly GraphForm[];
  readonly widening?: Widening;
}

/** Builds networks over one checkpoint; `unused` are the tensors that none of them reads. */
export function build(
  checkpoint: Checkpoint,
  builds: readonly Build[],
  { adapters = [], forms = [], widening = "cast" }: BuildOptions = {},
): { graphs: Graph[]; unused: string[] } {
  const used = builds.map((each) => {
    const graph = new Graph("full", { widening });
    const weights = Weights.of(graph, checkpoint, adapters);
    each(graph, weights);
    for (const form of forms) form(graph);
    return { graph, unused: new Set(weights.unused()) };
  });
  const unused = [...used[0]!.unused].filter((key) => used.every((each) => each.unused.has(key)));
  return { graphs: used.map(({ graph }) => graph), unused };
}
