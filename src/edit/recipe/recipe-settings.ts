// Converts a recipe back to the settings of an edit. Values are validated by their parameters, so a recipe can request nothing that a user cannot.
import type { Recipe } from "../../artifacts/recipe.js";
import { QeditError } from "../../std/errors.js";
import { type ParameterTable, readValue, type SettingsOf } from "../parameters/parameter.js";

/** Values as written in a recipe or by a user, by the name of the setting; a missing one has its default. */
export type WrittenSettings = Readonly<Record<string, unknown>>;

type Values = Readonly<Record<string, unknown>>;

/** Compute types: names in recipes to names of the parameter `dtype`. */
const DTYPES: Readonly<Record<string, string>> = { f32: "float32", bf16: "bfloat16" };

/** The settings of `run` for a recipe, without files. Throws QEDIT_E_IMAGE if the recipe is not of a whole edit. */
export function recipeSettings(recipe: Recipe, name: string): WrittenSettings {
  const {
    encode_image: image,
    encode_prompt: prompt,
    sample,
    decode,
    paste_back: paste,
    write,
  } = recipe.settings as Readonly<Record<string, Values | null | undefined>>;
  const fault =
    !image || !prompt || !sample || !decode
      ? "it was made from tensor files of another tool, which say nothing of the stages before"
      : stageFault(recipe, { image, prompt, decode });
  if (fault !== undefined) {
    throw new QeditError("QEDIT_E_IMAGE", `Cannot make ${name} again in one go: ${fault}`, {
      hint: `\`qedit inspect ${name}\` shows what each stage was given: run them one by one`,
    });
  }
  const { sampler, scheduler, steps, denoise, shift, sigmas, cfg, cfgNorm, seed, device, compute_type: type } = sample!;
  const { lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod, stepCache } = sample!;
  const values: Values = {
    match: image!["match"],
    megapixels: image!["megapixels"],
    resolutionSteps: image!["resolution_steps"],
    size: image!["size"],
    prompt: prompt!["prompt"],
    allowEmptyPrompt: prompt!["allow_empty_prompt"],
    negativePrompt: prompt!["negative_prompt"],
    ...(scheduler === undefined ? { sigmas } : { scheduler, steps, denoise, shift }),
    ...{ sampler, cfg, cfgNorm, seed, device },
    ...{ lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod, stepCache },
    dtype: DTYPES[String(type)],
    keepSize: decode!["keep_size"],
    pasteBack: paste?.["version"] !== undefined,
    feather: paste?.["feather"],
    cropMask: paste?.["crop_mask"],
    maskMargin: paste?.["mask_margin"],
    jpegQuality: write?.["format"] === "jpeg" ? write["quality"] : undefined,
    webpQuality: write?.["format"] === "webp" ? write["quality"] : undefined,
  };
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
}

/** Reads and validates a table's values; missing ones have their defaults. Throws QEDIT_E_USAGE. */
export function readSettings<Table extends ParameterTable>(table: Table, written: WrittenSettings): SettingsOf<Table> {
  const values = Object.entries(table).map(([key, parameter]) => {
    const value = written[key];
    return [key, value === undefined ? parameter.initial : readValue(key, parameter, value)];
  });
  return Object.fromEntries(values) as SettingsOf<Table>;
}

/** Roles of the inputs of a recipe in order: `image.1`, `image.2`, …, `mask`. */
export function inputRoles({ inputs }: Recipe): string[] {
  const number = (role: string) => (role === "mask" ? Infinity : Number(role.slice("image.".length)));
  return Object.keys(inputs).sort((a, b) => number(a) - number(b));
}

// Why `run` cannot reproduce a recipe that was made stage by stage; undefined if it can.
function stageFault(
  { inputs, weights, sizes }: Recipe,
  { image, prompt, decode }: Readonly<Record<"image" | "prompt" | "decode", Values>>,
): string | undefined {
  const roles = Object.keys(inputs);
  if (roles.some((role) => role.startsWith("prompt.")))
    return "its prompt was encoded with other pictures than its latents";
  if (weights["vae.encoder"] !== undefined)
    return "it was decoded by another VAE than the one that encoded its pictures";
  const images = roles.filter((role) => role.startsWith("image.")).length;
  const seen = (sizes["vision_grids"] as readonly unknown[] | undefined)?.length;
  const encoded = (sizes["images"] as readonly unknown[] | undefined)?.length;
  if ((seen ?? 0) !== images || (encoded ?? 0) !== images)
    return `its prompt saw ${seen ?? 0} pictures, its latents hold ${encoded ?? 0}`;
  if (decode["rim"] !== undefined) return "it was decoded without picture 1, whose rim it lacks";
  const matches = new Set([image, prompt, decode].map((stage) => stage["match"] ?? null));
  return matches.size > 1 ? "its stages had different values of `match`" : undefined;
}
