// Each exported model against the stage of the pipeline that it stands for, at sizes that differ, in one session each.
import { describe, expect, test } from "vitest";
import { toPlanes } from "../../src/image/image.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { samplingSigmas } from "../../src/sampling/driver.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { decode } from "../../src/stages/decode.js";
import { encodePrompt } from "../../src/stages/encode-prompt.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { withVae } from "../../src/stages/networks/open-vae.js";
import { sample } from "../../src/stages/sample.js";
import { float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { writeEveryKind } from "../support/adapter-file.js";
import { temporaryFolder } from "../support/folder.js";
import {
  EMBEDDED,
  type ExportedSessions,
  exported,
  imageTensor,
  inBfloat16,
  madePicture,
  type Names,
  openFiles,
  promptFeeds,
  scaling,
} from "./exported.js";

/** Of the largest value: float32 sums in another order. */
const SAME = 1e-5;
const folder = temporaryFolder();
const NO_INFO = { settings: {}, sizes: {}, inputs: {}, weights: {} };

function expectSame(found: Tensor, wanted: Tensor): void {
  expect(found.shape).toEqual(wanted.shape);
  expect(scaledError(found.data as Float32Array, wanted.data as Float32Array)).toBeLessThanOrEqual(SAME);
}

/** Odd counts of cells, 5x7 and 3x4, too. */
const SIZES = [
  [56, 40],
  [32, 24],
  [64, 48],
] as const;

describe.each(["tiny/vae", "tiny/vae-fp32", "tiny-model/tiny_vae"])("of %s", (vae) => {
  test("encode_image gives the latents of encode-image, normalised", async () => {
    const files = await openFiles({ vae });
    await using models = await exported(files, {});
    for (const [index, size] of SIZES.entries()) {
      const picture = madePicture(size, index + 1);
      const { latent } = await models.run("encode_image", { image: imageTensor(picture) });
      const run = { file: files.vae, compute: "f32", tile: undefined } as const;
      const wanted = await withVae("encoder", { run, pixels: [size[1], size[0]] }, models.context, (encode) =>
        encode(toPlanes(picture.image)),
      );
      expectSame(latent!, scaling(files).normalised(wanted));
    }
  });

  test("decode gives the picture of decode", async () => {
    const files = await openFiles({ vae });
    await using models = await exported(files);
    for (const [index, [width, height]] of SIZES.entries()) {
      const latents = numbers([1, 16, height / 8, width / 8], index);
      const { image } = await models.run("decode", { latents });
      const samples = {
        kind: "samples",
        tensors: { latent_tensor: scaling(files).restored(latents) },
        info: NO_INFO,
      } as const;
      const settings = { vaeDtype: "auto", tile: undefined, keepSize: false, match: undefined, noMetadata: true };
      const wanted = await decode.run({ inputs: { samples }, models: files, settings }, models.context);
      expect(image!.shape).toEqual([height, width, 3]);
      const differences = wanted.image.data.map((value, at) => Math.abs(value - Number(image!.data[at])));
      expect(Math.max(...differences)).toBeLessThanOrEqual(1);
    }
  });
});

/** Every weight in bfloat16. */
const IN_BF16 = {
  textEncoder: await inBfloat16("tiny/text-encoder", folder),
  transformer: await inBfloat16("tiny/transformer-fp32", folder),
};

describe.each<Names>([{ textEncoder: "tiny/text-encoder" }, IN_BF16, EMBEDDED])("of $textEncoder", (names) => {
  test("encode_prompt gives the embeddings of encode-prompt for no, one, two and three pictures", async () => {
    const files = await openFiles(names);
    await using models = await exported(files);
    const prompts = ["make it winter", "replace <|image_pad|> by two <|image_pad|>", "a cat <|endoftext|> and a dog"];
    const pictures = [madePicture([97, 61]), madePicture([70, 83], 2), madePicture([120, 40], 3)];
    for (const [index, prompt] of prompts.entries()) {
      for (const count of index === 0 ? [0, 1, 2, 3] : [2]) {
        const shown = pictures.slice(0, count);
        const settings = {
          prompt,
          allowEmptyPrompt: false,
          negativePrompt: undefined,
          match: undefined,
          textDtype: "auto",
        };
        const wanted = await encodePrompt.run({ inputs: { pictures: shown }, models: files, settings }, models.context);
        const found = await models.run("encode_prompt", await promptFeeds(prompt, shown, files.textEncoder));
        expectSame(found["prompt_embeds"]!, wanted.tensors["prompt_embeds"]!);
      }
    }
  });
});

interface Run {
  readonly cfg?: number;
  readonly steps?: number;
  readonly references?: number;
  readonly target?: readonly [number, number];
  readonly cfgNorm?: number | "none";
  readonly referenceMethod?: string;
}

async function expectSampled(
  files: Awaited<ReturnType<typeof openFiles>>,
  models: ExportedSessions,
  run: Run,
): Promise<void> {
  const { cfg = 1, steps = 4, references = 1, target: [h, w] = [6, 8], cfgNorm = 1, referenceMethod } = run;
  const { textWidth } = transformerConfig(numbersOf(files.transformer.checkpoint), files.transformer.config);
  const sizes = [
    [4, 10],
    [5, 7],
    [9, 3],
  ].slice(0, references);
  const latents = sizes.map(([height, width], index) => numbers([1, 16, height!, width!], index + 2));
  const { normalised, restored, statistics } = scaling(files);
  const tensors = {
    // Noise alone.
    latent: float32([1, 16, h, w]),
    ...Object.fromEntries(latents.map((each, index) => [`reference_latents.${index}`, restored(each)])),
  };
  const cond = { prompt_embeds: numbers([1, 7, textWidth], 3), negative_prompt_embeds: numbers([1, 5, textWidth], 4) };
  const settings = {
    ...{ sampler: "euler", scheduler: "simple", steps, denoise: 1, shift: 3, cfg, cfgNorm, seed: 42n },
    ...{ dtype: "auto", referenceMethod },
  };
  const info = { ...NO_INFO, settings: { latent_statistics: statistics } };
  const inputs = { latents: { kind: "latents", tensors, info }, cond: { kind: "cond", tensors: cond, info } } as const;
  const wanted = await sample.run({ inputs, models: files, settings }, models.context);
  const packed = await models.run(
    `join_${references}`,
    Object.fromEntries(latents.map((each, index) => [`latent_${index + 1}`, normalised(restored(each))])),
  );
  const sigmas = samplingSigmas({ ...settings, cfgNorm: undefined });
  const feeds: Tensors = {
    ...packed,
    noise: float32([1, 16, h, w], randn(42n, 16 * h * w)),
    prompt_embeds: cond.prompt_embeds,
    sigmas: float32([sigmas.length], sigmas),
  };
  const guidance = { negative_prompt_embeds: cond.negative_prompt_embeds, cfg: float32([1], Float32Array.of(cfg)) };
  const found = await (cfg === 1 ? models.run("sample", feeds) : models.run("sample_cfg", { ...feeds, ...guidance }));
  expectSame(found["latents"]!, normalised(wanted.tensors["latent_tensor"]!));
}

describe("in float16", () => {
  const inHalf = { compute: { vae: "f16", textEncoder: "f32", transformer: "f32" } } as const;

  test.each([
    ["fits", 1, 2],
    ["overflows, and is computed once more in float32,", 3e4, 0],
  ])("decode of what %s gives the picture of float32", async (_, scale, most) => {
    const files = await openFiles();
    await using half = await exported(files, inHalf);
    await using full = await exported(files);
    const latents = numbers([1, 16, 5, 7]);
    const feeds = {
      latents: float32(
        latents.shape,
        latents.data.map((value) => value * scale),
      ),
    };
    const [found, wanted] = [await half.run("decode", feeds), await full.run("decode", feeds)];
    const differences = [...wanted["image"]!.data].map((value, at) =>
      Math.abs(Number(value) - Number(found["image"]!.data[at])),
    );
    expect(Math.max(...differences)).toBeLessThanOrEqual(most);
  });

  test("encode_image gives the latent of float32, but for roundings", async () => {
    const files = await openFiles();
    await using half = await exported(files, inHalf);
    await using full = await exported(files);
    const feeds = { image: imageTensor(madePicture([56, 40])) };
    const [found, wanted] = [await half.run("encode_image", feeds), await full.run("encode_image", feeds)];
    expect(scaledError(found["latent"]!.data as Float32Array, wanted["latent"]!.data as Float32Array)).toBeLessThan(
      1e-2,
    );
  });
});

const LORAS = [
  { name: "tiny/loras/published", strength: 0.8 },
  { name: "tiny/loras/second", strength: -0.5 },
];

const adapter = folder.at("every");
await writeEveryKind(`${adapter}.safetensors`, (await openFiles()).transformer.checkpoint);

describe.each<[string, Names]>([
  ["2509 in fp8", {}],
  ["2509 with adapters of every kind", { loras: [{ name: adapter, strength: 0.7 }] }],
  ["2509 in scaled fp8", { transformer: "tiny/transformer-scaled-fp8" }],
  ["2509 in bf16", IN_BF16],
  ["2509 in fp32", { transformer: "tiny/transformer-fp32" }],
  ["2511", { transformer: "tiny/transformer-2511" }],
  ["2509 with LoRAs", { loras: LORAS }],
  ["2511 with a LoRA", { transformer: "tiny/transformer-2511", loras: LORAS.slice(0, 1) }],
])("of %s", (_, names) => {
  test("sample gives the latents of sample", async () => {
    const files = await openFiles(names);
    await using models = await exported(files);
    await expectSampled(files, models, {});
    await expectSampled(files, models, { steps: 1, references: 2, target: [5, 7] });
    await expectSampled(files, models, { steps: 7, references: 3, target: [3, 8] });
  });

  test("sample_cfg gives the guided latents of sample", async () => {
    const files = await openFiles(names);
    await using models = await exported(files);
    await expectSampled(files, models, { cfg: 2.5 });
    await expectSampled(files, models, { cfg: 4, references: 3, target: [7, 4], steps: 2 });
  });
});

test.each(["offset", "uxo", "index", "index_timestep_zero"])(
  "sample places references by %s as sample does",
  async (referenceMethod) => {
    const files = await openFiles();
    await using models = await exported(files, { referenceMethod });
    for (const references of [1, 2, 3]) await expectSampled(files, models, { references, referenceMethod, steps: 2 });
  },
);

test.each(["none", 0.7] as const)("sample_cfg has CFGNorm of %s inside", async (cfgNorm) => {
  const files = await openFiles();
  await using models = await exported(files, { cfgNorm });
  await expectSampled(files, models, { cfg: 2.5, cfgNorm, steps: 2 });
  await expectSampled(files, models, { cfg: 1, cfgNorm, steps: 2 });
});
