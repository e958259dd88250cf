// Each exported model of Qwen-Image-2.1 against the stage of the pipeline that it stands for, at sizes that differ, in one session each.
import { describe, expect, test } from "vitest";
import { clientNumbers, patchTensors, promptInput, seenByClient } from "../../src/edit/remote/client-inputs.js";
import { channelsOf, toPlanes } from "../../src/image/image.js";
import { samplingSigmas } from "../../src/sampling/driver.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { decode } from "../../src/stages/decode.js";
import { encodePrompt } from "../../src/stages/encode-prompt.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { withVae } from "../../src/stages/networks/open-vae.js";
import type { Picture } from "../../src/stages/pictures.js";
import { sample } from "../../src/stages/sample.js";
import { float32, type Tensor, type Tensors, tensor } from "../../src/std/tensor.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { type ExportedSessions, exported, madePicture, scaling, wholes } from "./exported.js";

/** Of the largest value: float32 sums in another order. */
const SAME = 1e-5;
const folder = temporaryFolder();
const NO_INFO = { settings: {}, sizes: {}, inputs: {}, weights: {} };
const textEncoder = await tinyTextEncoder2({ folder: folder.path });
const tokenizer = await loadTokenizer("qwen3");
const PICTURES = [madePicture([96, 64]), madePicture([64, 96], 2), madePicture([128, 64], 3)];

async function files(transformer = "transformer") {
  return {
    vae: await openModel(fixture("tiny-2/vae.safetensors"), "vae"),
    textEncoder: await openModel(textEncoder, "textEncoder"),
    transformer: await openModel(fixture(`tiny-2/${transformer}.safetensors`), "transformer"),
    loras: [],
  };
}

function expectSame(found: Tensor, wanted: Tensor): void {
  expect(found.shape).toEqual(wanted.shape);
  expect(scaledError(found.data as Float32Array, wanted.data as Float32Array)).toBeLessThanOrEqual(SAME);
}

// With transparency that rises from left to right.
function withAlpha({ image: { width, height, data } }: Picture): Uint8Array {
  return Uint8Array.from({ length: width * height * 4 }, (_, at) =>
    at % 4 === 3 ? ((at >> 2) % width) + 100 : data[(at >> 2) * 3 + (at % 4)]!,
  );
}

test("encode_image gives the latents of encode-image, normalised, with transparency", async () => {
  const own = await files();
  await using models = await exported(own);
  for (const picture of PICTURES) {
    const { width, height } = picture.image;
    const data = withAlpha(picture);
    const { latent } = await models.run("encode_image", { image: tensor("uint8", [height, width, 4], data) });
    const image = { width, height, data, channels: 4 } as const;
    expect(channelsOf(image)).toBe(4);
    const run = { file: own.vae, compute: "f32", tile: undefined } as const;
    const wanted = await withVae("encoder", { run, pixels: [height, width] }, models.context, (encode) =>
      encode(toPlanes(image)),
    );
    expectSame(latent!, scaling(own).normalised(wanted));
  }
});

test("decode gives the picture of decode, with transparency", async () => {
  const own = await files();
  await using models = await exported(own);
  const { latentChannels } = clientNumbers(own);
  const latents = numbers([1, latentChannels, 4, 6]);
  const { image } = await models.run("decode", { latents });
  const samples = {
    kind: "samples",
    tensors: { latent_tensor: scaling(own).restored(latents) },
    info: NO_INFO,
  } as const;
  const settings = { vaeDtype: "auto", tile: undefined, keepSize: false, match: undefined, noMetadata: true };
  const wanted = await decode.run({ inputs: { samples }, models: own, settings }, models.context);
  expect(image!.shape).toEqual([64, 96, 4]);
  const differences = wanted.image.data.map((value, at) => Math.abs(value - Number(image!.data[at])));
  expect(Math.max(...differences)).toBeLessThanOrEqual(1);
});

test("encode_prompt gives the embeddings of encode-prompt, and where pictures stand, for no, one, two and three pictures", async () => {
  const own = await files();
  await using models = await exported(own);
  for (const prompt of ["make it winter", "a red fox — ein roter Fuchs", "x"])
    for (const count of [0, 1, 2, 3]) {
      const pictures = PICTURES.slice(0, count);
      const settings = {
        ...{ prompt, allowEmptyPrompt: false, match: undefined, textDtype: "auto", negativePrompt: undefined },
        ...{ size: undefined, megapixels: 0.015 },
      };
      const wanted = await encodePrompt.run({ inputs: { pictures }, models: own, settings }, models.context);
      const numbersOfModel = clientNumbers(own);
      const seen = seenByClient(pictures, settings, numbersOfModel);
      const { ids, kept } = promptInput(prompt, seen, { match: undefined, family: numbersOfModel.family, tokenizer });
      const found = await models.run("encode_prompt", {
        input_ids: ids,
        ...patchTensors(seen, numbersOfModel.patches),
      });
      expectSame(found["prompt_embeds"]!, wanted.tensors["prompt_embeds"]!);
      expect(found["prompt_embeds"]!.shape[1]).toBe(kept);
      const places = wanted.tensors["image_positions"]!;
      expect([...found["image_positions"]!.data].map(Number)).toEqual([...places.data].map(Number));
    }
});

interface Run {
  readonly references: number;
  readonly cfg?: number;
  readonly steps?: number;
  readonly target?: readonly [number, number];
}

async function expectSampled(
  own: Awaited<ReturnType<typeof files>>,
  models: ExportedSessions,
  { references, cfg = 1, steps = 3, target: [h, w] = [4, 6] }: Run,
): Promise<void> {
  const { latentChannels: channels } = clientNumbers(own);
  const textWidth = own.transformer.checkpoint.tensors.get("txt_in.text_norm.weight")!.shape[0]!;
  const sizes = [
    [4, 2],
    [2, 6],
    [6, 4],
  ].slice(0, references);
  const latents = sizes.map(([height, width], index) => numbers([1, channels, height!, width!], index + 2));
  const { normalised, restored, statistics } = scaling(own);
  const tensors = {
    latent: float32([1, channels, h, w]),
    ...Object.fromEntries(latents.map((each, index) => [`reference_latents.${index}`, restored(each)])),
  };
  const places = [2, 2, 5].slice(0, references);
  const negativePlaces = [0, 3, 4].slice(0, references);
  const int32 = (list: readonly number[]) => tensor("int32", [list.length], Int32Array.from(list));
  const cond = {
    prompt_embeds: numbers([1, 7, textWidth], 3),
    image_positions: int32(places),
    negative_prompt_embeds: numbers([1, 5, textWidth], 4),
    negative_image_positions: int32(negativePlaces),
  };
  const settings = {
    ...{ sampler: "euler", scheduler: "simple", steps, denoise: 1, shift: 3, cfg, seed: 42n },
    ...({ cfgNorm: "none", dtype: "auto" } as const),
  };
  const info = { ...NO_INFO, settings: { latent_statistics: statistics } };
  const inputs = { latents: { kind: "latents", tensors, info }, cond: { kind: "cond", tensors: cond, info } } as const;
  const wanted = await sample.run({ inputs, models: own, settings }, models.context);
  const noise = float32([1, channels, h, w], randn(42n, channels * h * w));
  const joined =
    references === 0
      ? { noise }
      : Object.fromEntries(latents.map((each, index) => [`latent_${index + 1}`, normalised(restored(each))]));
  const { reference_tokens, reference_sizes } = (await models.run(`join_${references}`, joined)) as Record<
    string,
    Tensor
  >;
  const sigmas = samplingSigmas({ ...settings, cfgNorm: undefined });
  const feeds: Tensors = {
    ...{ noise, reference_tokens: reference_tokens!, reference_sizes: reference_sizes! },
    prompt_embeds: cond.prompt_embeds,
    image_positions: wholes([references], places),
    sigmas: float32([sigmas.length], sigmas),
  };
  const guidance = {
    negative_prompt_embeds: cond.negative_prompt_embeds,
    negative_image_positions: wholes([references], negativePlaces),
    cfg: float32([1], Float32Array.of(cfg)),
  };
  const found = await (cfg === 1 ? models.run("sample", feeds) : models.run("sample_cfg", { ...feeds, ...guidance }));
  expectSame(found["latents"]!, normalised(wanted.tensors["latent_tensor"]!));
}

test.each(["transformer", "transformer-scaled-fp8", "transformer-fused-bf16"])(
  "sample and sample_cfg of %s give the latents of sample",
  async (name) => {
    const own = await files(name);
    await using models = await exported(own, { cfgNorm: "none" });
    for (const references of [0, 1, 2, 3]) await expectSampled(own, models, { references });
    await expectSampled(own, models, { references: 2, steps: 1, target: [2, 8] });
    for (const references of [0, 3]) await expectSampled(own, models, { references, cfg: 2.5 });
  },
);

describe("sample refuses", () => {
  const places = (list: readonly number[]) => ({ image_positions: wholes([list.length], list) });
  const sizes = (list: readonly number[]) => ({ reference_sizes: wholes([list.length / 2, 2], list) });
  const odd = (height: number, width: number) => ({ noise: numbers([1, 8, height, width]) });
  test.each<[string, Tensors, string]>([
    ["places that fall", places([3, 2]), "rising places"],
    ["a place behind the prompt", places([1, 8]), "rising places"],
    ["a negative place", places([-1, 2]), "rising places"],
    ["fewer places than references", places([2]), "a place for each reference"],
    ["sizes of other references", sizes([4, 2, 4, 2]), "as many as reference_sizes says"],
    ["a reference of an odd side", sizes([5, 2, 2, 5]), "reference_sizes must be even"],
    ["negative sides", { ...sizes([-4, -5]), ...places([2]) }, "reference_sizes must be positive"],
    ["a side of nothing", sizes([4, 5, 0, 4]), "reference_sizes must be positive"],
    ["sides whose product overflows", sizes([4, 5, 2 ** 32, 2 ** 32]), "no more cells than reference_tokens"],
    ["a result of an odd side", odd(4, 3), "sides of noise must be even"],
  ])("%s", async (_, changed, message) => {
    await using models = await exported(await files(), { cfgNorm: "none" });
    const feeds = {
      noise: numbers([1, 8, 4, 6]),
      reference_tokens: numbers([1, 20, 8]),
      ...sizes([4, 2, 2, 6]),
      prompt_embeds: numbers([1, 7, 32], 3),
      ...places([2, 5]),
      sigmas: float32([3], Float32Array.of(1, 0.5, 0)),
    };
    await expect(models.run("sample", { ...feeds, ...changed })).rejects.toThrow(message);
  });
});
