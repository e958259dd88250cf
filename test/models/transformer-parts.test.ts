// The transformer in parts, and with its modulation fed, against the whole graph: the same numbers in another order of work.
import { expect, test } from "vitest";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { Adapter, Weights } from "../../src/checkpoint/weights.js";
import type { Graph } from "../../src/graph/graph.js";
import {
  buildModulation,
  fedModulationOf,
  fedVectors,
  modulationInput,
  storedVectors,
} from "../../src/models/qwen-image/modulation.js";
import { ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import type { BlockRange } from "../../src/models/transformer-family.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

/** float32 sums in another order: some units in the last place of the largest value. */
const SAME = 1e-6;
const SIGMAS = [1, 0.83, 0.25];

async function network(file: string, lora?: string) {
  const checkpoint = await readSafetensors(fixture(`tiny/${file}.safetensors`));
  const config = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const adapters: Adapter[] =
    lora === undefined
      ? []
      : [
          {
            name: "lora_strength.0",
            modules: (await matchLora(await readSafetensors(fixture(`tiny/loras/${lora}.safetensors`)), checkpoint))
              .matched,
          },
        ];
  const run = async (build: (graph: Graph, w: Weights) => void, feeds: Tensors) => {
    await using opened = await openNetwork(checkpoint, { build, optimization: "none", adapters });
    return await opened.session.run({
      ...feeds,
      ...(lora === undefined ? {} : { "lora_strength.0": float32([1], Float32Array.of(0.7)) }),
    });
  };
  return { config, run };
}

type Network = Awaited<ReturnType<typeof network>>;

function feedsOf({ config }: Network): Tensors {
  const [target, reference] = [
    { rows: 3, columns: 4 },
    { rows: 2, columns: 5 },
  ];
  const { cos, sin } = ropeTables(7, [target, reference], config);
  return {
    latent_tokens: numbers([1, 12, config.patchWidth], 1),
    reference_tokens: numbers([1, 10, config.patchWidth], 2),
    prompt_embeds: numbers([1, 7, config.textWidth], 3),
    rope_cos: cos,
    rope_sin: sin,
  };
}

async function whole({ config, run }: Network, sigma: number): Promise<Tensor> {
  const out = await run((graph, w) => buildTransformer(graph, w, { config, compute: "f32" }), {
    ...feedsOf({ config, run }),
    timestep: float32([1], Float32Array.of(sigma)),
  });
  return out["velocity"]!;
}

async function inParts({ config, run }: Network, sigma: number, ranges: readonly BlockRange[]): Promise<Tensor> {
  const all = { from: 0, to: config.blocks };
  const { modulation } = await run((graph, w) => buildModulation(graph, w, { config, compute: "f32", blocks: all }), {
    timestep: float32([SIGMAS.length], Float32Array.from(SIGMAS)),
  });
  const width = config.heads * config.headDim;
  const rows = { data: modulation!.data as Float32Array, length: storedVectors(config, all) * width };
  let streams: Tensors = {};
  for (const blocks of ranges) {
    const fed = float32(
      [fedVectors({ config, blocks }), width],
      fedModulationOf(rows, SIGMAS.indexOf(sigma), { config, blocks }),
    );
    streams = await run(
      (graph, w) => buildTransformer(graph, w, { config, compute: "f32", blocks, isModulationFed: true }),
      { ...feedsOf({ config, run }), ...streams, [modulationInput(blocks)]: fed },
    );
  }
  return streams["velocity"]!;
}

test.each(["transformer", "transformer-2511", "transformer-scaled-fp8"])(
  "%s with fed modulation gives the velocity of the whole graph at every noise level",
  async (file) => {
    const each = await network(file);
    for (const sigma of SIGMAS) {
      const found = await inParts(each, sigma, [{ from: 0, to: each.config.blocks }]);
      expect(
        scaledError(found.data as Float32Array, (await whole(each, sigma)).data as Float32Array),
      ).toBeLessThanOrEqual(SAME);
    }
  },
);

test.each(["transformer", "transformer-2511"])(
  "%s cut before every block gives the velocity of the whole graph",
  async (file) => {
    const each = await network(file);
    const ranges = Array.from({ length: each.config.blocks }, (_, from) => ({ from, to: from + 1 }));
    expect(ranges.length).toBeGreaterThan(1);
    const found = await inParts(each, SIGMAS[1]!, ranges);
    expect(
      scaledError(found.data as Float32Array, (await whole(each, SIGMAS[1]!)).data as Float32Array),
    ).toBeLessThanOrEqual(SAME);
  },
);

test("a LoRA acts on the parts as on the whole", async () => {
  const [with_, without] = [await network("transformer", "published"), await network("transformer")];
  const found = await inParts(with_, SIGMAS[0]!, [
    { from: 0, to: 1 },
    { from: 1, to: with_.config.blocks },
  ]);
  const wanted = (await whole(with_, SIGMAS[0]!)).data as Float32Array;
  expect(scaledError(found.data as Float32Array, wanted)).toBeLessThanOrEqual(SAME);
  expect(scaledError((await whole(without, SIGMAS[0]!)).data as Float32Array, wanted)).toBeGreaterThan(1e-3);
});
