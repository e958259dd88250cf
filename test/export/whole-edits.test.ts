// Whole edits by exported models, one model's outputs the next one's inputs as an ensemble joins them, against the stages of the pipeline.
import { expect, test } from "vitest";
import { toBytes } from "../../src/image/image.js";
import { applySteps } from "../../src/image/resize/resize.js";
import { planSizes } from "../../src/image/resize/size-plan.js";
import { samplingSigmas } from "../../src/sampling/driver.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { decode } from "../../src/stages/decode.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { encodePrompt } from "../../src/stages/encode-prompt.js";
import { type Picture, sourceOf } from "../../src/stages/pictures.js";
import { sample } from "../../src/stages/sample.js";
import { float32, type Tensors } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";
import {
  EMBEDDED,
  type ExportedSessions,
  exported,
  imageTensor,
  madePicture,
  type Names,
  openFiles,
  promptFeeds,
  scaling,
} from "./exported.js";

/** Of the largest value: float32 sums in another order, through all networks. */
const LATENTS = 1e-5;
/** In 255ths. */
const PIXELS = 1;
const PROMPT = { prompt: "make it winter", allowEmptyPrompt: false, match: undefined, textDtype: "auto" };
const VAE = { vaeDtype: "auto", tile: undefined };
const PICTURES = [madePicture([97, 61]), madePicture([70, 83], 2), madePicture([88, 40], 3)];

interface Edit {
  readonly pictures: readonly Picture[];
  readonly steps: number;
  readonly cfg: number;
  readonly megapixels: number;
}
type Files = Awaited<ReturnType<typeof openFiles>>;

function samplingOf({ steps, cfg }: Edit) {
  return {
    sampler: "euler",
    scheduler: "simple",
    steps,
    denoise: 1,
    shift: 3,
    cfg,
    cfgNorm: 1,
    seed: 7n,
    dtype: "auto",
  };
}

async function edited(edit: Edit, models: Files, { context }: ExportedSessions) {
  const inputs = { pictures: edit.pictures };
  const sizes = { size: undefined, megapixels: edit.megapixels, match: undefined };
  const latents = await encodeImage.run({ inputs, models, settings: { ...VAE, ...sizes } }, context);
  const negativePrompt = edit.cfg === 1 ? undefined : "blurry";
  const cond = await encodePrompt.run({ inputs, models, settings: { ...PROMPT, negativePrompt } }, context);
  const samples = await sample.run({ inputs: { latents, cond }, models, settings: samplingOf(edit) }, context);
  const settings = { ...VAE, keepSize: false, match: undefined, noMetadata: true };
  const { image } = await decode.run({ inputs: { samples }, models, settings }, context);
  return { latents: scaling(models).normalised(samples.tensors["latent_tensor"]!), image };
}

async function editedByModels(
  { pictures, megapixels, ...rest }: Edit,
  files: Files,
  models: ExportedSessions,
): Promise<Tensors> {
  const plan = planSizes(pictures.map(sourceOf), { mode: "default", megapixels });
  const latents: Record<string, Tensors[string]> = {};
  for (const [index, { image }] of pictures.entries()) {
    const pixels = toBytes(applySteps(image, plan.images[index]!.reference.steps), "round");
    const { latent } = await models.run("encode_image", { image: imageTensor({ image: pixels }) });
    latents[`latent_${index + 1}`] = latent!;
  }
  const packed = await models.run(`join_${pictures.length}`, latents);
  const prompt = async (text: string) =>
    (await models.run("encode_prompt", await promptFeeds(text, pictures, files.textEncoder)))["prompt_embeds"]!;
  const { height, width } = plan.target.latent;
  const sigmas = samplingSigmas({ ...samplingOf({ ...rest, pictures, megapixels }) });
  const feeds = {
    ...packed,
    noise: float32([1, 16, height, width], randn(7n, 16 * height * width)),
    prompt_embeds: await prompt(PROMPT.prompt),
    sigmas: float32([sigmas.length], sigmas),
  };
  const { latents: sampled } =
    rest.cfg === 1
      ? await models.run("sample", feeds)
      : await models.run("sample_cfg", {
          ...feeds,
          negative_prompt_embeds: await prompt("blurry"),
          cfg: float32([1], Float32Array.of(rest.cfg)),
        });
  return { latents: sampled!, ...(await models.run("decode", { latents: sampled! })) };
}

const LIGHTNING = { name: "tiny-model/tiny-Lightning-4steps-bf16", strength: 1 };

test.each<[string, Names, readonly Partial<Edit>[]]>([
  [
    "the embedded model",
    EMBEDDED,
    [{}, { pictures: PICTURES.slice(0, 2), steps: 1 }, { pictures: PICTURES, cfg: 2.5 }],
  ],
  ["the embedded model with its LoRA", { ...EMBEDDED, loras: [LIGHTNING] }, [{}, { pictures: PICTURES }]],
  ["2509", {}, [{}, { pictures: PICTURES.slice(1), steps: 7 }, { pictures: PICTURES, cfg: 2.5 }]],
  ["2511", { transformer: "tiny/transformer-2511" }, [{ pictures: PICTURES, cfg: 2.5 }]],
])("models exported from %s edit as qedit does", async (_, names, edits) => {
  const files = await openFiles(names);
  await using models = await exported(files);
  for (const edit of edits) {
    const whole = { pictures: PICTURES.slice(0, 1), steps: 4, cfg: 1, megapixels: 0.015, ...edit };
    const wanted = await edited(whole, files, models);
    const found = await editedByModels(whole, files, models);
    expect(scaledError(found["latents"]!.data as Float32Array, wanted.latents.data)).toBeLessThanOrEqual(LATENTS);
    const { height, width, data } = wanted.image;
    expect(found["image"]!.shape).toEqual([height, width, 3]);
    const differences = data.map((value, at) => Math.abs(value - Number(found["image"]!.data[at])));
    expect(Math.max(...differences)).toBeLessThanOrEqual(PIXELS);
  }
});
