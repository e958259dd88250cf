// What happens after decoding: measures the drift from picture 1, and pastes pixels of picture 1 back if requested.
import { basename } from "node:path";
import { overWhite, withAlpha, withoutOpaque } from "../../image/alpha.js";
import { type Drift, measureDrift } from "../../image/compare/drift.js";
import { type Box, CHANNELS, channelsOf, type Image, RGBA_CHANNELS, wholeOf } from "../../image/image.js";
import { type Change, changeOf } from "../../image/paste/change.js";
import { levelsAfter, type MaskLevels, maskBox, maskLevels, WHITE } from "../../image/paste/mask-levels.js";
import { alphaAround, alphaOfLevels, pasted, withOwnRim } from "../../image/paste/paste.js";
import { applyStepsInBytes, type Step } from "../../image/resize/resize.js";
import { isVisible, shownPart, straightened } from "../../image/resize/straighten.js";
import type { DecodedPicture } from "../../stages/decode.js";
import { type Picture, pixelsOf, pixelsWithAlpha } from "../../stages/pictures.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { type CropMaskSettings, checkCropMask } from "./crop-mask.js";
import { driftText } from "./drift-text.js";

/** The parameters of what happens after decoding. */
export interface FinishSettings extends CropMaskSettings {
  /** Whether pixels of picture 1 are pasted back outside the mask, or outside what changed. */
  readonly pasteBack: boolean;
  /** Width of the soft edge in pixels; undefined: 1/64 of the shorter side. */
  readonly feather: number | undefined;
  /** The tool whose numbers are reproduced; undefined: none. */
  readonly match: string | undefined;
}

/** The input pictures. */
interface Originals {
  readonly pictures: readonly Picture[];
  /** White where the edit belongs; undefined: what changed is detected. */
  readonly mask: Picture | undefined;
}

/** The final picture, and its drift; undefined if it could not be measured. */
export interface FinishedPicture extends DecodedPicture {
  readonly drift: Drift | undefined;
}

/** Raised when the same pixels and settings give another picture. */
const VERSION = 3;

/** Share of a side up to which drift is measured against all of picture 1; more is cropped where a size of another shape was asked for. */
const MOST_CUT = 0.1;

const FEATHER = 1 / 64;

/** Largest difference of aspects (natural logarithm) between a mask and picture 1. */
const ASPECT_TOLERANCE = 0.01;

/** Throws QEDIT_E_USAGE for parameters without effect and for an unusable mask. Called before anything is computed. */
export function checkFinish({ pictures: [first], mask }: Originals, settings: FinishSettings): void {
  const { pasteBack, feather } = settings;
  checkCropMask(settings, mask);
  for (const [name, value] of Object.entries({ mask, feather })) {
    if (value !== undefined && !pasteBack && !settings.cropMask)
      throw new QeditError("QEDIT_E_USAGE", `${param(name)} has no effect without ${param("paste_back")}`, {
        hint: `Add ${param("paste_back")}, or leave out ${param(name)}`,
        parameter: name,
      });
  }
  if (mask === undefined || first === undefined) return;
  const { width, height } = mask.image;
  const [name, size] = [basename(mask.name), `${width}x${height}`];
  if (Math.abs(Math.log(width / height / (first.image.width / first.image.height))) > ASPECT_TOLERANCE) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${name} as mask: it is ${size}, picture 1 is ${first.image.width}x${first.image.height}`,
      { hint: `Paint it over ${first.name}, white where the edit belongs`, parameter: "mask" },
    );
  }
  checkPainted(mask);
}

// Only colours say where the edit belongs: a mask that is painted in its transparency alone would be taken for a white one.
function checkPainted({ name, image, alpha }: Picture): void {
  const levels = maskLevels(image);
  const isWhite = levels.data.every((level) => level === WHITE);
  const fault =
    maskBox(levels) === undefined
      ? "black everywhere, so nothing of the edit would be kept"
      : isWhite && alpha?.some((value) => value !== alpha[0])
        ? "white everywhere, and painted in its transparency alone, which does not count"
        : undefined;
  if (fault === undefined) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use ${basename(name)} as mask: it is ${fault}`, {
    hint: "Paint white where the edit belongs; transparency does not count",
    parameter: "mask",
  });
}

/** Measures and emits the drift of a decoded picture; pastes back if requested. */
export async function finish(
  picture: DecodedPicture,
  originals: Originals,
  settings: FinishSettings,
  emit: Emit,
): Promise<FinishedPicture> {
  const [first] = originals.pictures;
  // A result that is opaque has three channels. Around it, a transparent picture 1 stays transparent.
  const isOpaque = channelsOf(picture.image) === CHANNELS;
  if (!isOpaque || first?.alpha === undefined || !seesTransparency(picture.info))
    return finished(picture, originals, settings, emit);
  const made = await finished({ ...picture, image: withAlpha(picture.image) }, originals, settings, emit);
  return { ...made, image: withoutOpaque(made.image) };
}

// Only the family whose prompts are recorded with a name has pictures of four channels.
function seesTransparency({ settings }: DecodedPicture["info"]): boolean {
  return (settings["encode_prompt"] as { readonly family?: unknown } | undefined)?.family !== undefined;
}

async function finished(
  picture: DecodedPicture,
  { pictures: [read], mask }: Originals,
  settings: FinishSettings,
  emit: Emit,
): Promise<FinishedPicture> {
  if (read === undefined) return { ...picture, drift: undefined };
  // A result with transparency is held against picture 1 with its own.
  const hasAlpha = channelsOf(picture.image) === RGBA_CHANNELS;
  const first = { ...read, image: hasAlpha ? pixelsWithAlpha(read, settings) : pixelsOf(read, settings) };
  const frame = frameOf(picture);
  const measured = measureDrift(overWhite(picture.image), overWhite(first.image), frame);
  const drift = frame.isPlaced ? measured : inWhole(measured, frame, { first, picture });
  emit({ kind: "drift", ...(drift && { zoom: drift.zoom, right: drift.x, down: drift.y }), text: driftText(drift) });
  const whole = async () =>
    frame.isPlaced ? { ...picture, image: await withOwnRim(picture.image, first.image, frame.inside) } : picture;
  if (!settings.pasteBack) return { ...(await whole()), drift };
  const { image, share, info } = await paste(picture, first, { settings, mask, frame });
  if (image === undefined) {
    const text = "paste back: the edit changed the whole picture, not a part of it: nothing was pasted back";
    emit({ kind: "warning", text });
    return { ...(await whole()), info, drift };
  }
  emit({ kind: "note", text: `paste back: ${percent(share)} edited, the rest is ${first.name}` });
  if (share === 0)
    emit({
      kind: "warning",
      text: "the result differs nowhere from picture 1 by more than encoding does: all of it was pasted back",
    });
  return { ...picture, image, info, drift };
}

// The frame that counts is the picture that the user gave: a result of a cropped part, laid over all of it, is larger and moved.
function inWhole(
  drift: Drift | undefined,
  { seen }: Frame,
  { first: { image: source }, picture: { image } }: { first: Picture; picture: DecodedPicture },
): Drift | undefined {
  const zooms = { x: source.width / seen.width, y: source.height / seen.height };
  if (drift === undefined || Math.max(zooms.x, zooms.y) > 1 / (1 - MOST_CUT)) return drift;
  const middle = (start: number, length: number, whole: number) => (whole / 2 - start) / length - 1 / 2;
  return {
    ...drift,
    zoom: drift.zoom * Math.sqrt(zooms.x * zooms.y),
    x: drift.x + drift.zoom * middle(seen.x, seen.width, source.width) * image.width,
    y: drift.y + drift.zoom * middle(seen.y, seen.height, source.height) * image.height,
  };
}

/** How the result aligns with picture 1. */
interface Frame {
  /** The box of picture 1 that the result shows. */
  readonly seen: Box;
  /** The box of the result that the models made. */
  readonly inside: Box;
  /** Whether the result is of picture 1's size, with what the models made where the box is. */
  readonly isPlaced: boolean;
  /** Resize picture 1 to the result's size. */
  readonly steps: readonly Step[];
}

// As encode-image recorded it. With --keep-size the result and picture 1 align pixel by pixel.
function frameOf({ image, info }: DecodedPicture): Frame {
  const { target } = info.sizes as unknown as { target: { box: Box; steps: readonly Step[] } };
  const inside = { x: 0, y: 0, width: image.width, height: image.height };
  const hasKeptSize = (info.settings["decode"] as { keep_size: boolean }).keep_size;
  const { box: seen } = target;
  return hasKeptSize
    ? { seen, inside: seen, isPlaced: true, steps: [] }
    : { seen, inside, isPlaced: false, steps: target.steps };
}

interface Pasting {
  readonly settings: FinishSettings;
  readonly mask: Picture | undefined;
  readonly frame: Frame;
}

// No picture if the change is not local. What the models made is compared and pasted alone; outside it all is the original's.
async function paste(
  picture: DecodedPicture,
  first: Picture,
  { settings, mask, frame }: Pasting,
): Promise<{ image: Image | undefined; share: number; info: DecodedPicture["info"] }> {
  const { inside } = frame;
  const original = applyStepsInBytes(first.image, frame.steps);
  // Against what the models saw of picture 1, where the drift that is reported is against all of it.
  const drift = measureDrift(overWhite(picture.image), overWhite(original), { seen: inside, inside });
  const isMoved = drift !== undefined && isVisible(drift, inside);
  const result = isMoved ? straightened(picture.image, drift, inside) : picture.image;
  const shown = isMoved ? shownPart(wholeOf(inside), drift, inside) : wholeOf(inside);
  const box = { ...shown, x: shown.x + inside.x, y: shown.y + inside.y };
  const feather = settings.feather ?? Math.round(Math.min(inside.width, inside.height) * FEATHER);
  const change = mask === undefined ? await changeOf(result, original, box) : undefined;
  if (change?.isLocal === false) return { image: undefined, share: 1, info: picture.info };
  const alpha =
    change === undefined
      ? alphaOfLevels(levelsOver(first, mask!, frame), feather)
      : alphaAround(changeIn(change, inside, shown), feather);
  const { info } = picture;
  const { cropMask, maskMargin } = settings;
  const { image, changed } = pasted(result, original, { alpha, at: inside, box });
  return {
    image,
    share: changed / (image.width * image.height),
    info: {
      ...info,
      settings: {
        ...info.settings,
        paste_back: {
          version: VERSION,
          mask: mask !== undefined,
          feather,
          ...(cropMask && { crop_mask: true, ...(maskMargin !== undefined && { mask_margin: maskMargin }) }),
        },
      },
      ...(mask !== undefined && {
        inputs: { ...info.inputs, mask: mask.hash },
        names: { ...info.names, mask: basename(mask.name) },
      }),
    },
  };
}

// What changed in a part of what the models made, as a mask of all of it: the rest of a straightened result is made of repeated edge pixels.
function changeIn({ mask }: Change, { width, height }: Box, part: Box): Change["mask"] {
  if (part.width === width && part.height === height) return mask;
  const data = new Uint8Array(width * height);
  for (let row = 0; row < part.height; row++)
    data.set(mask.data.subarray(row * part.width, (row + 1) * part.width), (part.y + row) * width + part.x);
  return { width, height, data };
}

// The mask over what the models made.
function levelsOver({ image }: Picture, mask: Picture, { steps, inside }: Frame): MaskLevels {
  return levelsAfter(maskLevels(mask.image), { size: image, steps, box: inside });
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
