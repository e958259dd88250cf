// A whole four-step edit through every network, against the chained components of diffusers and transformers, which agree with
// QwenImageEditPlusPipeline (fixtures/oracle/README.md). The reference's pixels, token ids and sigmas go in at the front.
import { afterAll, expect, test } from "vitest";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower } from "../../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder, latentStatistics } from "../../src/models/vaes.js";
import { sampleLatent, samplingSigmas } from "../../src/sampling/driver.js";
import { randn } from "../../src/sampling/noise/noise.js";
import {
  type EmbeddedPicture,
  embeddedPicture,
  embedPrompt,
  pictureFeeds,
  promptEmbeds,
} from "../../src/stages/networks/embed-prompt.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { normalisedLatent, type Prompts, velocityOf } from "../../src/stages/networks/velocity.js";
import type { Tensor } from "../../src/std/tensor.js";
import { fixture, type Golden, readGolden } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { expectParity, printParity, TOLERANCE } from "./table.js";

const SETTINGS = { sampler: "euler", scheduler: "simple", steps: 4, denoise: 1, shift: 3, cfgNorm: 1, seed: 42n };

afterAll(printParity);

test.each(["edit-1", "edit-2", "edit-3", "edit-1-cfg", "edit-2-odd"])(
  "%s ends at the reference's picture",
  async (name) => {
    const golden = await readGolden(name);
    const count = golden.names.filter((key) => key.startsWith("pixels_")).length;
    const numbers = Array.from({ length: count }, (_, index) => index + 1);
    const place = (tap: string) => ({ network: "whole edit", weights: name, tap });

    const latents = await encodePixels(numbers.map((number) => golden.get(`pixels_${number}`)));
    numbers.forEach((number, index) =>
      expectParity(place(`latent ${number}`), [latents[index]!, golden.get(`mean_${number}`)], TOLERANCE.network),
    );
    const prompts = await embed(golden, numbers);
    expectParity(place("prompt_embeds"), [prompts.positive.embeds, golden.get("prompt_embeds")], TOLERANCE.network);

    const cfg = Number(golden.metadata["guidance"]);
    const noise = golden.get("noise");
    expect(randn(SETTINGS.seed, noise.data.length)).toEqual(noise.data);
    expect([...samplingSigmas({ ...SETTINGS, cfg })]).toEqual([...golden.get("sigmas").data]);
    const samples = await sampleFour(latents, prompts, cfg);
    expectParity(place("samples"), [samples, golden.get("samples")], TOLERANCE.edit);
    const image = await decodeSamples(samples);
    expectParity(place("image"), [image, golden.get("image")], TOLERANCE.edit);
  },
);

async function encodePixels(pictures: readonly Tensor<"float32">[]): Promise<Tensor<"float32">[]> {
  await using network = await openNetwork(await readSafetensors(fixture("tiny/vae.safetensors")), {
    build: (graph, w) => buildVaeEncoder(graph, w, { compute: "f32" }),
    optimization: "full",
  });
  const latents = [];
  for (const image of pictures) latents.push((await network.session.run({ image }))["latent"] as Tensor<"float32">);
  return latents;
}

async function embed(golden: Golden, numbers: readonly number[]): Promise<Prompts> {
  const checkpoint = await readSafetensors(fixture("tiny/text-encoder.safetensors"));
  const config = checkpointConfig(checkpoint);
  const vision = visionConfig(numbersOf(checkpoint), config);
  const language = languageConfig(numbersOf(checkpoint), config);
  await using tower = await openNetwork(checkpoint, {
    build: (graph, w) => buildVisionTower(graph, w, { config: vision, compute: "f32" }),
    optimization: "none",
  });
  await using model = await openNetwork(checkpoint, {
    build: (graph, w) => buildLanguageModel(graph, w, { config: language, compute: "f32" }),
    optimization: "none",
  });
  const seen: EmbeddedPicture[] = [];
  for (const number of numbers) {
    const grid = [...golden.get(`grid_thw_${number}`).data] as [number, number, number];
    const patches = { pixelValues: golden.get(`pixel_values_${number}`), grid };
    seen.push(
      embeddedPicture(await tower.session.run(pictureFeeds(patches, vision)), patches, {
        config: vision,
        name: `picture ${number}`,
      }),
    );
  }
  const read = async (key: string) => {
    const placed = await embedPrompt(placeholders([...golden.get(key).data]), seen, { config: language, checkpoint });
    return { embeds: promptEmbeds(await model.session.run(placed.feeds), placed) };
  };
  return {
    positive: await read("input_ids"),
    negative: golden.names.includes("negative_input_ids") ? await read("negative_input_ids") : undefined,
  };
}

// The reference's ids are expanded: back to one placeholder for each run of them.
function placeholders(ids: readonly number[]): number[] {
  const IMAGE_PAD = 151655;
  return ids.filter((id, index) => id !== IMAGE_PAD || ids[index - 1] !== IMAGE_PAD);
}

async function sampleFour(
  latents: readonly Tensor<"float32">[],
  prompts: Prompts,
  cfg: number,
): Promise<Tensor<"float32">> {
  const file = await openModel(fixture("tiny/transformer.safetensors"), "transformer");
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const statistics = latentStatistics(16);
  const [first] = latents;
  const references = latents.map((latent) => normalisedLatent(latent, statistics));
  const network = qwenImage(config);
  const conditions = { shape: first!.shape, references, prompts, network };
  const run = { file, network, compute: "f32", loras: [], sigmas: [], conditions } as const;
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
  const context = { engine, emit: () => {}, signal: new AbortController().signal };
  return withTransformer(run, context, (transformer) =>
    sampleLatent(velocityOf(transformer, conditions), { ...SETTINGS, cfg }, { latent: first!, ...statistics }),
  );
}

async function decodeSamples(latent: Tensor<"float32">): Promise<Tensor<"float32">> {
  await using network = await openNetwork(await readSafetensors(fixture("tiny/vae.safetensors")), {
    build: (graph, w) => buildVaeDecoder(graph, w, { compute: "f32" }),
    optimization: "full",
  });
  return (await network.session.run({ latent }))["image"] as Tensor<"float32">;
}
