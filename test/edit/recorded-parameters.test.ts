// Every parameter of an edit: what decides the picture is in the keys of the cache and in the recipe. A new parameter needs a line here.
import { expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import type { Recipe } from "../../src/artifacts/recipe.js";
import type { FinishedPicture } from "../../src/edit/finish/finish.js";
import { readValue } from "../../src/edit/parameters/parameter.js";
import { EDIT_PARAMETERS, type EditSettings } from "../../src/edit/parameters/table.js";
import { recipeSettings, type WrittenSettings } from "../../src/edit/recipe/recipe-settings.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { encodePrompt } from "../../src/stages/encode-prompt.js";
import { sample } from "../../src/stages/sample.js";
import { float32 } from "../../src/std/tensor.js";
import { tinyEdit } from "../support/edits.js";
import { withService } from "../support/services.js";

type Name = keyof EditSettings;

/** Parameters that decide what the stages compute: a value other than that of an edit without it. */
const OF_STAGES = {
  size: "64x48",
  megapixels: 0.03,
  match: "comfyui",
  prompt: "make it summer",
  negativePrompt: "snow",
  seed: "43",
  steps: 3,
  cfg: 3,
  sampler: "heun",
  scheduler: "normal",
  shift: 2,
  sigmas: [1, 0.8, 0.3],
  denoise: 0.5,
  cfgNorm: "none",
  lcmNoise: 0.5,
  lcmNoiseEnd: 0.5,
  lcmNoiseClip: 2,
  referenceMethod: "offset",
  resolutionSteps: 32,
  stepCache: 0.1,
} as const satisfies Partial<Record<Name, unknown>>;

/** Parameters that decide how the picture is finished. */
const OF_FINISHING = {
  keepSize: true,
  pasteBack: true,
  feather: 3,
  cropMask: true,
  maskMargin: 10,
} as const satisfies Partial<Record<Name, unknown>>;

/** Parameters that are not recorded by themselves, and why. */
const NOT_BY_NAME = {
  vae: "the identity of its weights is",
  textEncoder: "the identity of its weights is",
  transformer: "the identity of its weights is",
  lora: "the identities of their weights are, with their strengths",
  vaeDtype: "the type that was computed in is",
  textDtype: "the type that was computed in is",
  dtype: "the type that was computed in is",
  keepExif: "it is of the file, not of the picture",
  mask: "the hash of its pixels is",
  allowEmptyPrompt: "it allows, or changes nothing",
  strictLora: "it refuses, or changes nothing",
  tile: "the result is the same",
  noMetadata: "nothing is recorded with it",
} as const satisfies Partial<Record<Name, string>>;

const NAMES = Object.keys(EDIT_PARAMETERS) as Name[];

test("every parameter of an edit is recorded, or there is a reason why not", () => {
  const known = [OF_STAGES, OF_FINISHING, NOT_BY_NAME].flatMap((each) => Object.keys(each));
  expect(known.sort()).toEqual([...NAMES].sort());
});

// What the stages record of an edit; also what their cache keys are made of.
async function recordOf(settings: WrittenSettings) {
  const { resolved, pictures } = await tinyEdit({ settings });
  const { settings: values } = resolved;
  const { vae, textEncoder, transformer, loras } = resolved.models;
  const models = { vae: vae!, textEncoder: textEncoder!, transformer: transformer!, loras };
  const device = { provider: "cpu", index: 0, threads: 1 } as const;
  const config = { models, settings: values };
  const info = { settings: {}, sizes: {}, inputs: {}, weights: {} };
  const latent = float32([1, 16, 2, 2]);
  const latents: Artifact = { kind: "latents", tensors: { latent, "reference_latents.0": latent }, info };
  const cond: Artifact = { kind: "cond", tensors: { prompt_embeds: float32([1, 2, 3]) }, info };
  const ofPictures = { ...config, inputs: { pictures: await pictures() } };
  return {
    encode_image: encodeImage.identity(ofPictures, device),
    encode_prompt: encodePrompt.identity(ofPictures, device),
    sample: sample.identity({ ...config, inputs: { latents, cond } }, device),
  } as Record<string, { settings: Record<string, unknown> }>;
}

/** With guidance, so that a negative prompt counts. */
const BEFORE = { cfg: 2 };

test.each(Object.entries(OF_STAGES))(
  "another %s is another key of the cache, and in the recipe",
  async (key, value) => {
    const [before, after] = [await recordOf(BEFORE), await recordOf({ ...BEFORE, [key]: value })];
    expect(after).not.toEqual(before);

    const settings = Object.fromEntries(Object.entries(after).map(([stage, each]) => [stage, each.settings]));
    const recipe = {
      ...{ recipe: 1, qedit: undefined, names: {}, weights: {}, inputs: { "image.1": "" } },
      sizes: { vision_grids: [[1, 2, 2]], images: [[32, 32]] },
      settings: { ...settings, decode: { keep_size: false, match: settings["encode_image"]!["match"] } },
    } as unknown as Recipe;
    const again = recipeSettings(recipe, "it.png");
    const parameter = EDIT_PARAMETERS[key as keyof typeof OF_STAGES];
    expect(readValue(key, parameter as never, again[key])).toEqual(readValue(key, parameter as never, value));
  },
);

test("how a picture was finished is in its recipe", async () => {
  const { settings } = await withService({}, async ({ service }) => {
    const finished: FinishedPicture[] = [];
    const edit = await tinyEdit({ settings: { ...OF_FINISHING, steps: 1 } });
    // Any picture is a mask; without one nothing is pasted back where all has changed.
    const mask = async () => (await edit.pictures())[0];
    const job = service.submit({ ...edit, mask, onPicture: async (picture) => void finished.push(picture) });
    expect(await job.outcome).toMatchObject({ state: "done" });
    return finished[0]!.info;
  });
  const recipe = { settings, inputs: { "image.1": "" }, weights: {}, sizes: { vision_grids: [0], images: [0] } };
  expect(recipeSettings(recipe as unknown as Recipe, "it.png")).toMatchObject(OF_FINISHING);
  const without = { ...recipe, settings: { ...settings, paste_back: null } };
  expect(recipeSettings(without as unknown as Recipe, "it.png")).toMatchObject({ pasteBack: false });
});
