// The sizes of every picture in every stage, with the reason for each.

import type { PlanMode, SizePlan } from "../../image/resize/size-plan.js";
import type { LatentRoute } from "../../image/resize/size-routes.js";
import { param } from "../../std/errors.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { LatentSizes, PictureSizes } from "./edit-plan.js";

type SizeSettings = Pick<ResolvedSettings, "size" | "megapixels">;

const NODE_VISION = "TextEncodeQwenImageEditPlus: 384² pixels, then sides to multiples of a token's";
const WHY_VISION: Readonly<Record<PlanMode, string>> = {
  default: "about 384² pixels, sides multiples of a token's",
  comfyui: NODE_VISION,
  "comfyui-kontext": NODE_VISION,
};

/** The sizes of the result. */
export function latentSizes({ mode, rules, target }: SizePlan, settings: SizeSettings): LatentSizes {
  return { ...placesOf(target), why: whyTarget({ mode, rules }, settings) };
}

/** The sizes of each picture. */
export function pictureSizes({ mode, rules, target, images }: SizePlan, settings: SizeSettings): PictureSizes[] {
  return images.map(({ name, source, reference, vision }, index) => ({
    name,
    source,
    reference: {
      ...placesOf(reference),
      why: whyReference({ mode, rules }, { isTarget: reference === target, isFirst: index === 0, settings }),
    },
    vision: {
      size: vision.size,
      grid: vision.grid,
      tokens: vision.tokens,
      why: rules.seesReferences ? "the pixels of its reference" : WHY_VISION[mode],
    },
  }));
}

function placesOf({ size, box, latent, tokens }: LatentRoute): Omit<LatentSizes, "why"> {
  return { size, box, latent, tokens };
}

type Kind = Pick<SizePlan, "mode" | "rules">;

/** Of the node of models that see their references. */
const REFERENCE_NODE = "TextEncodeQwenImage21: stretched to sides multiples of 32";

function whyTarget({ mode, rules }: Kind, { size, megapixels = 1 }: SizeSettings): string {
  if (mode !== "default" && rules.seesReferences) return `${REFERENCE_NODE}, as picture 1`;
  if (mode === "comfyui-kontext") return "FluxKontextImageScale: the nearest aspect of its list";
  if (mode === "comfyui")
    return `ImageScaleToTotalPixels: picture 1 at ${megapixels} ${megapixels === 1 ? "megapixel" : "megapixels"}`;
  if (size !== undefined) return `as ${param("size")} says`;
  return `the aspect of picture 1 at ${megapixels} ${megapixels === 1 ? "megapixel" : "megapixels"}, sides multiples of ${rules.multiple}`;
}

function whyReference(
  { mode, rules }: Kind,
  { isTarget, isFirst, settings }: { isTarget: boolean; isFirst: boolean; settings: SizeSettings },
): string {
  if (mode !== "default") {
    if (rules.seesReferences) return REFERENCE_NODE;
    return `TextEncodeQwenImageEditPlus: about a megapixel, sides multiples of 8${mode === "comfyui-kontext" && isFirst ? ", after FluxKontextImageScale" : ""}`;
  }
  if (isTarget) return "as the result, so that nothing zooms or drifts";
  if (isFirst && settings.size !== undefined)
    return `its own aspect: ${param("size")} would cut off more than a tenth of it`;
  return `its own aspect, about as many pixels as the result, sides multiples of ${rules.multiple}`;
}
