// The four small layers of fixtures/oracle/adapters, with adapters beside their weights.
import { readdir } from "node:fs/promises";
import { expect } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { Adapter } from "../../src/checkpoint/weights.js";
import { linear } from "../../src/models/layers.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { fixture } from "./golden.js";
import { openNetwork } from "./graphs.js";

/** The layers, under their names in a block. */
export const LAYERS = ["attn.to_q", "attn.to_out.0", "img_mlp.net.0.proj", "img_mlp.net.2"];

/** Their weights. */
export const model = await readSafetensors(fixture("tiny/adapters/model.safetensors"));

/** Adapters in a folder of fixtures/tiny, and what the layers gave with them. */
export interface AdapterCases {
  readonly names: readonly string[];
  /** What a layer gave: `CASE.LAYER`; its input: `x.LAYER`. */
  readonly golden: (name: string) => Promise<Tensor<"float32">>;
  /** An adapter of a case, as number `index` of a graph. */
  readonly adapter: (name: string, index?: number) => Promise<Adapter>;
}

/** Opens a folder of adapters. */
export async function adapterCases(folder: string): Promise<AdapterCases> {
  const golden = await readSafetensors(fixture(`tiny/${folder}/golden.safetensors`));
  const files = await readdir(fixture(`tiny/${folder}`));
  return {
    names: files
      .map((file) => file.replace(".safetensors", ""))
      .filter((name) => name !== "model" && name !== "golden"),
    async golden(name) {
      const stored = golden.tensors.get(name)!;
      return float32(stored.shape, await readTensor(stored));
    },
    async adapter(name, index = 0) {
      const match = await matchLora(await readSafetensors(fixture(`tiny/${folder}/${name}.safetensors`)), model);
      expect(match.unmatched).toEqual([]);
      expect(match.matched.size).toBe(LAYERS.length);
      return { name: `lora_strength.${index}`, modules: match.matched };
    },
  };
}

/** An adapter at a strength. */
export interface AtStrength {
  readonly adapter: Adapter;
  readonly strength: number;
}

/** What each layer gives with adapters at strengths. */
export async function outputs(
  checkpoint: Checkpoint,
  { golden }: Pick<AdapterCases, "golden">,
  active: readonly AtStrength[],
): Promise<Map<string, Tensor<"float32">>> {
  await using network = await openNetwork(checkpoint, {
    optimization: "none",
    adapters: active.map(({ adapter }) => adapter),
    build(graph, w) {
      for (const layer of LAYERS) {
        const at = w.at("transformer_blocks.0").at(layer);
        const x = graph.input(`x.${layer}`, "f32", ["tokens", at.shape("weight")[1]!]);
        graph.output(layer, linear(x, at));
      }
    },
  });
  const x = await Promise.all(LAYERS.map(async (layer) => [`x.${layer}`, await golden(`x.${layer}`)] as const));
  const given = active.map(({ adapter, strength }) => [adapter.name, float32([1], Float32Array.of(strength))] as const);
  const found = await network.session.run(Object.fromEntries([...x, ...given]));
  return new Map(LAYERS.map((layer) => [layer, found[layer] as Tensor<"float32">]));
}
