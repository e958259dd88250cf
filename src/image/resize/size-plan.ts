// The size plan of an edit: for every picture the resizes on its way into the vision tower and the VAE, and the size of the output.
// Plain data: decided before any pixel is read, shown to the user, and kept in the recipe.
import { param, QeditError } from "../../std/errors.js";
import { roundHalfEven } from "../../std/rounding.js";
import type { Box, Size } from "../image.js";
import { type PatchConfig, QWEN_PATCHES } from "../patches.js";
import type { Step } from "./resize.js";
import {
  boxAfter,
  cropSteps,
  type Grid,
  type LatentRoute,
  latentRoute,
  type Route,
  sizeAfter,
  type VisionRoute,
  visionRoute,
  wholeRoute,
} from "./size-routes.js";
import { EDIT_SIZES, type SizeRules } from "./size-rules.js";
import * as sizes from "./sizes.js";

/**
 * Whose sizes: "default" are qedit's, one resize per picture and every side fitting every stage, so that a result laid over picture 1 neither zooms nor drifts.
 * "comfyui" is ImageScaleToTotalPixels for the target and TextEncodeQwenImageEditPlus on the raw pictures; "comfyui-kontext" puts
 * FluxKontextImageScale in front of both for the first picture, as the later template does. Where the vision tower sees the references,
 * "comfyui" is TextEncodeQwenImage21, and the target an empty latent of its first picture's size.
 */
export type PlanMode = "default" | "comfyui" | "comfyui-kontext";

/** A picture by the name to show, with its size in pixels as it is displayed (EXIF orientation applied). */
export interface Source extends Size {
  readonly name: string;
}

/** What to plan for. size fixes the output's pixels; else it has about megapixels (1024² pixels each, default 1). */
export interface PlanOptions {
  readonly mode?: PlanMode;
  readonly megapixels?: number;
  readonly size?: Size;
  /** Of ImageScaleToTotalPixels: multiple of the target's sides in mode "comfyui", default 1. */
  readonly resolutionSteps?: number;
  /** The part of the first picture that is edited, and that all of its routes show; all of it unless given. */
  readonly region?: Box | undefined;
  /** Cut of the vision tower, default Qwen2.5-VL's. */
  readonly patches?: PatchConfig;
  /** Pixels of a latent cell and side, default the published VAE's 8. */
  readonly cell?: number;
  /** Default those of Qwen-Image-Edit. */
  readonly rules?: SizeRules;
}

/** The plan of one picture. */
export interface ImagePlan {
  readonly name: string;
  readonly source: Size;
  readonly vision: VisionRoute;
  readonly reference: LatentRoute;
}

/** The plan of an edit. target's steps, empty without pictures, start from the first picture. */
export interface SizePlan {
  readonly mode: PlanMode;
  readonly rules: SizeRules;
  readonly target: LatentRoute;
  readonly images: readonly ImagePlan[];
}

/** Longest a picture may be for its width (or the reverse): beyond, a side of a megapixel would be under 128 pixels. */
const MAX_ASPECT = 64;

/** As ComfyUI's ImageScaleToTotalPixels; far beyond what the model was trained on, and what attention can hold. */
const MAX_MEGAPIXELS = 16;

/** A size asked for may cut off this much of a side of the first picture; beyond, its reference keeps its own shape. */
const MAX_CROP = 0.1;

const SQUARE: Size = { width: 1, height: 1 };

/** Plans all sizes of an edit; the first picture decides the output's shape. Throws QEDIT_E_USAGE on sizes that cannot be. */
export function planSizes(sources: readonly Source[], options: PlanOptions = {}): SizePlan {
  const { region } = options;
  const [first, ...others] = sources;
  if (region === undefined || first === undefined) return planWhole(sources, options);
  const { width, height } = region;
  return inRegion(planWhole([{ ...first, width, height }, ...others], options), first, region);
}

// A plan of the region as if it were the picture, seen from the whole picture.
function inRegion(plan: SizePlan, { width, height }: Source, region: Box): SizePlan {
  const cropped = <Kind extends Route>(route: Kind): Kind => ({
    ...route,
    steps: [...cropSteps({ width, height }, region), ...route.steps],
  });
  const moved = (route: LatentRoute): LatentRoute => {
    const { x, y, ...size } = route.box;
    return { ...cropped(route), box: { x: x + region.x, y: y + region.y, ...size } };
  };
  const [first, ...others] = plan.images;
  const target = moved(plan.target);
  const { reference, vision } = first!;
  const image = {
    ...first!,
    source: { width, height },
    vision: cropped(vision),
    reference: reference === plan.target ? target : moved(reference),
  };
  return { ...plan, target, images: [image, ...others] };
}

function planWhole(sources: readonly Source[], options: PlanOptions): SizePlan {
  const { mode = "default", rules = EDIT_SIZES, patches = patchesBy(rules) } = options;
  const grid = gridOf(options);
  checkOptions(options);
  sources.forEach(checkAspect);
  if (mode !== "default")
    return rules.seesReferences ? planReferences(sources, options) : planNodes(sources, mode, options);
  const [first] = sources;
  const area =
    options.size === undefined ? (options.megapixels ?? 1) * sizes.MEGAPIXEL : options.size.width * options.size.height;
  const bestSize = (source: Size) => sizes.bestSize(source, area, rules.multiple);
  const targetSize = options.size ?? bestSize(first ?? SQUARE);
  const target = first === undefined ? wholeRoute(targetSize, grid) : fittedRoute(first, targetSize, { grid, rules });
  const images = sources.map((source, index) => {
    const aligned = index === 0 && (options.size === undefined || cropShare(source, target.box) <= MAX_CROP);
    const reference = aligned ? target : fittedRoute(source, bestSize(source), { grid, rules });
    const vision = rules.seesReferences ? visionRoute(reference, patches) : visionDirect(source, patches);
    return imagePlan(source, reference, vision);
  });
  return { mode, rules, target, images };
}

// Where the vision tower sees the references, a token of its own is of the pixels that all sides are multiples of.
function patchesBy({ seesReferences, multiple }: SizeRules): PatchConfig {
  return seesReferences ? { ...QWEN_PATCHES, patch: multiple / QWEN_PATCHES.merge } : QWEN_PATCHES;
}

function gridOf({ cell = sizes.LATENT_CELL, rules: { tokenCells } = EDIT_SIZES }: PlanOptions): Grid {
  return { cell, tokenCells };
}

function checkOptions({ mode = "default", megapixels, size, resolutionSteps, rules = EDIT_SIZES }: PlanOptions): void {
  const { multiple, seesReferences } = rules;
  if (seesReferences && mode === "comfyui-kontext") {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan in mode ${mode}: FluxKontextImageScale is of Qwen-Image-Edit's template`,
      {
        hint: `Use ${param("match", "comfyui")}`,
        parameter: "match",
      },
    );
  }
  if (resolutionSteps !== undefined && seesReferences) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${param("resolution_steps")}: sides are multiples of ${multiple} by this model's node`,
      {
        hint: `Leave out ${param("resolution_steps")}`,
        parameter: "resolution_steps",
      },
    );
  }
  if (resolutionSteps !== undefined && mode !== "comfyui") {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("resolution_steps")} in mode ${mode}: it has no effect`, {
      hint: `Add ${param("match", "comfyui")}, or leave out ${param("resolution_steps")}`,
      parameter: "resolution_steps",
    });
  }
  if (megapixels !== undefined && size !== undefined) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot plan for megapixels and a size at once", {
      hint: `Give one of ${param("megapixels")} and ${param("size")}`,
    });
  }
  const fewest = multiple ** 2 / sizes.MEGAPIXEL;
  if (megapixels !== undefined && !(megapixels >= fewest && megapixels <= MAX_MEGAPIXELS)) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan for ${megapixels} megapixels: wanted from ${fewest.toFixed(5)} to ${MAX_MEGAPIXELS}`,
      {
        hint: `Use ${param("megapixels", 1)}`,
      },
    );
  }
  if (size === undefined) return;
  if (mode !== "default")
    throw new QeditError("QEDIT_E_USAGE", `Cannot plan for a size in mode ${mode}: its nodes choose the size`, {
      hint: `Leave out ${param("size")} or ${param("match")}`,
      parameter: "size",
    });
  if (size.width * size.height > MAX_MEGAPIXELS * sizes.MEGAPIXEL) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan for ${show(size)}: that is more than ${MAX_MEGAPIXELS} megapixels`,
      { hint: `Use ${param("megapixels", 1)}`, parameter: "size" },
    );
  }
  const sides = [size.width, size.height];
  if (sides.every((side) => Number.isInteger(side) && side >= multiple && side % multiple === 0)) return;
  const nearest = sides.map((side) => Math.max(roundHalfEven(side / multiple), 1) * multiple);
  throw new QeditError("QEDIT_E_USAGE", `Cannot plan for ${show(size)}: sides must be multiples of ${multiple}`, {
    hint: `Use ${param("size", nearest.join("x"))}`,
    parameter: "size",
  });
}

function checkAspect(source: Source): void {
  const { width, height, name } = source;
  if (Math.max(width / height, height / width) <= MAX_ASPECT) return;
  throw new QeditError("QEDIT_E_IMAGE", `Cannot use ${name}: ${show(source)} is longer than ${MAX_ASPECT} to 1`, {
    hint: "Crop the picture first",
  });
}

function planNodes(sources: readonly Source[], mode: PlanMode, options: PlanOptions): SizePlan {
  const { megapixels = 1, resolutionSteps, patches = QWEN_PATCHES, rules = EDIT_SIZES } = options;
  const grid = gridOf(options);
  const [first] = sources;
  const scaledSize = (source: Size) => sizes.totalPixelsSize(source, megapixels, resolutionSteps);
  const prescaled = mode === "comfyui-kontext";
  const images = sources.map((source, index) =>
    nodesOf(source, prescaled && index === 0 ? kontextSteps(source) : [], { patches, grid }),
  );
  // Without pictures the templates start from an empty latent of 1024 x 1024.
  if (first === undefined) return { mode, rules, target: wholeRoute(scaledSize(SQUARE), grid), images };
  const size = scaledSize(first);
  const scaling: Step[] = prescaled ? kontextSteps(first) : [{ kind: "resize", size, method: "lanczos" }];
  return { mode, rules, target: encodedRoute(first, scaling, grid), images };
}

/** What TextEncodeQwenImage21 does: one resize of each picture, which stretches, for the VAE and the vision tower alike. */
function planReferences(
  sources: readonly Source[],
  { mode = "comfyui", megapixels = 1, rules = EDIT_SIZES, patches = patchesBy(rules), ...options }: PlanOptions,
): SizePlan {
  const grid = gridOf({ ...options, rules });
  const sizeOf = (source: Size) => sizes.referenceNodeSize(source, Math.sqrt(megapixels * sizes.MEGAPIXEL));
  const images = sources.map((source) => {
    const size = sizeOf(source);
    const whole = { x: 0, y: 0, width: source.width, height: source.height };
    const reference = latentRoute({ size, steps: [{ kind: "resize", size, method: "lanczos" }] }, whole, grid);
    return imagePlan(source, reference, visionRoute(reference, patches));
  });
  return { mode, rules, target: images[0]?.reference ?? wholeRoute(sizeOf(SQUARE), grid), images };
}

/** What TextEncodeQwenImageEditPlus does to a picture that steps have already changed. */
function nodesOf(
  source: Source,
  before: readonly Step[],
  { patches, grid }: { patches: PatchConfig; grid: Grid },
): ImagePlan {
  const seen = sizeAfter(source, before);
  const shrunk = sizes.plusVisionSize(seen);
  const vision = sizes.smartResize(shrunk, patches.patch * patches.merge);
  const reference: Step = { kind: "resize", size: sizes.plusReferenceSize(seen), method: "area" };
  const visionSteps: Step[] = [
    { kind: "resize", size: shrunk, method: "area" },
    { kind: "resize", size: vision, method: "bilinear" },
  ];
  return imagePlan(
    source,
    encodedRoute(source, [...before, reference], grid),
    visionRoute({ size: vision, steps: [...before, ...visionSteps] }, patches),
  );
}

function kontextSteps(source: Source): Step[] {
  const size = sizes.kontextSize(source);
  return [...cropSteps(source, sizes.upscaleBox(source, size)), { kind: "resize", size, method: "lanczos" }];
}

/** Ends with the VAE's own cut to whole latent cells. */
function encodedRoute(source: Source, steps: readonly Step[], grid: Grid): LatentRoute {
  const scaled = sizeAfter(source, steps);
  const size = sizes.encodedBox(scaled, grid.cell);
  if (size.width === 0 || size.height === 0) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan for ${source.name}: at ${show(scaled)} a side is under ${grid.cell} pixels`,
      {
        hint: `Use more ${param("megapixels")}`,
      },
    );
  }
  return latentRoute({ size, steps: [...steps, ...cropSteps(scaled, size)] }, boxAfter(source, steps), grid);
}

/** One Lanczos resize of the whole source, or where that would stretch it visibly, of the largest centred part that has the aspect of size. */
function fittedRoute(
  source: Source,
  size: Size,
  { grid, rules: { mostStretch } }: { readonly grid: Grid; readonly rules: SizeRules },
): LatentRoute {
  const whole = { x: 0, y: 0, width: source.width, height: source.height };
  const box = stretch(source, size) <= mostStretch ? whole : sizes.centredBox(source, size);
  return latentRoute(
    { size, steps: [...cropSteps(source, box), { kind: "resize", size, method: "lanczos" }] },
    box,
    grid,
  );
}

function visionDirect(source: Source, patches: PatchConfig): VisionRoute {
  const size = sizes.visionSize(source, patches.patch * patches.merge);
  return visionRoute({ size, steps: [{ kind: "resize", size, method: "lanczos" }] }, patches);
}

function imagePlan({ name, width, height }: Source, reference: LatentRoute, vision: VisionRoute): ImagePlan {
  return { name, source: { width, height }, vision, reference };
}

/** How far a picture is stretched to a size, the natural logarithm of the quotient of their proportions. */
export function stretch(from: Size, to: Size): number {
  return Math.abs(Math.log(from.width / from.height / (to.width / to.height)));
}

function cropShare(source: Size, box: Box): number {
  return Math.max(1 - box.width / source.width, 1 - box.height / source.height);
}

function show({ width, height }: Size): string {
  return `${width}x${height}`;
}
