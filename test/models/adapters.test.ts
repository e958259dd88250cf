// Adapters of every kind, by PEFT's and LyCORIS's own modules (fixtures/oracle/adapters), beside weights of every stored form.
import { readdir } from "node:fs/promises";
import { expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { Adapter } from "../../src/checkpoint/weights.js";
import { linear } from "../../src/models/layers.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

/** float32 sums of some ten products in another order. */
const SAME = 1e-5;

const LAYERS = ["attn.to_q", "attn.to_out.0", "img_mlp.net.0.proj", "img_mlp.net.2"];
const model = await readSafetensors(fixture("tiny/adapters/model.safetensors"));
const golden = await readSafetensors(fixture("tiny/adapters/golden.safetensors"));
const CASES = (await readdir(fixture("tiny/adapters")))
  .map((file) => file.replace(".safetensors", ""))
  .filter((name) => name !== "model" && name !== "golden");

async function goldenOf(name: string): Promise<Tensor<"float32">> {
  const stored = golden.tensors.get(name)!;
  return float32(stored.shape, await readTensor(stored));
}

async function adapterOf(name: string, index = 0): Promise<Adapter> {
  const match = await matchLora(await readSafetensors(fixture(`tiny/adapters/${name}.safetensors`)), model);
  expect(match.unmatched).toEqual([]);
  expect(match.matched.size).toBe(LAYERS.length);
  return { name: `lora_strength.${index}`, modules: match.matched };
}

/** What each layer gives with adapters at strengths. */
async function outputs(
  checkpoint: Checkpoint,
  adapters: readonly Adapter[],
  strengths: readonly number[],
): Promise<Map<string, Tensor<"float32">>> {
  await using network = await openNetwork(checkpoint, {
    optimization: "none",
    adapters,
    build(graph, w) {
      for (const layer of LAYERS) {
        const at = w.at("transformer_blocks.0").at(layer);
        const x = graph.input(`x.${layer}`, "f32", ["tokens", at.shape("weight")[1]!]);
        graph.output(layer, linear(x, at));
      }
    },
  });
  const x = await Promise.all(LAYERS.map(async (layer) => [`x.${layer}`, await goldenOf(`x.${layer}`)] as const));
  const given = adapters.map(({ name }, index) => [name, float32([1], Float32Array.of(strengths[index]!))] as const);
  const found = await network.session.run(Object.fromEntries([...x, ...given]));
  return new Map(LAYERS.map((layer) => [layer, found[layer] as Tensor<"float32">]));
}

/** `none + Σ strength · (case - none)`: every kind changes an output in proportion to its strength. */
async function interpolated(layer: string, cases: Readonly<Record<string, number>>): Promise<Float32Array> {
  const { data: none } = await goldenOf(`none.${layer}`);
  const sum = Float32Array.from(none);
  for (const [name, strength] of Object.entries(cases)) {
    const { data } = await goldenOf(`${name}.${layer}`);
    for (let at = 0; at < sum.length; at += 1) sum[at]! += strength * (data[at]! - none[at]!);
  }
  return sum;
}

test.each(CASES)("%s gives what its trainer's own modules give, at strengths of 1, 0.6, -0.5 and 0", async (name) => {
  const adapter = await adapterOf(name);
  for (const strength of [1, 0.6, -0.5, 0]) {
    const found = await outputs(model, [adapter], [strength]);
    for (const layer of LAYERS) {
      const wanted = await interpolated(layer, { [name]: strength });
      expect(scaledError(found.get(layer)!.data, wanted), `${layer} at ${strength}`).toBeLessThan(SAME);
    }
  }
});

test("adapters of different kinds add up, each as if it were alone", async () => {
  const strengths = {
    "lycoris-lora": 1,
    "peft-dora": 0.5,
    "lycoris-lora-dora-inputs": 0.8,
    "lycoris-lokr-dora-inputs": -0.3,
    "lycoris-lokr": -1,
    "lycoris-full": 0.7,
    "peft-lora-bias": 2,
  };
  const adapters = await Promise.all(Object.keys(strengths).map(adapterOf));
  const found = await outputs(model, adapters, Object.values(strengths));
  for (const layer of LAYERS)
    expect(scaledError(found.get(layer)!.data, await interpolated(layer, strengths))).toBeLessThan(SAME);
});

test("adapters that rescale inputs add up too", async () => {
  const strengths = { "lycoris-lora-dora-inputs": 0.8, "lycoris-loha-dora-inputs": -0.3, "lycoris-loha": 0.5 };
  const adapters = await Promise.all(Object.keys(strengths).map(adapterOf));
  const found = await outputs(model, adapters, Object.values(strengths));
  for (const layer of LAYERS)
    expect(scaledError(found.get(layer)!.data, await interpolated(layer, strengths))).toBeLessThan(SAME);
});
