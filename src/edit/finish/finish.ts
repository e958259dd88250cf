// What happens after decoding: measures the drift from picture 1, and pastes pixels of picture 1 back if requested.
import { basename } from "node:path";
import { type Drift, measureDrift } from "../../image/compare/drift.js";
import { type Box, crop, type Image, type Size, toBytes } from "../../image/image.js";
import { type Change, changeOf } from "../../image/paste/change.js";
import { type Alpha, alphaAround, alphaOfPicture, editedShare, pasted, withOwnRim } from "../../image/paste/paste.js";
import { applySteps, resize, type Step } from "../../image/resize/resize.js";
import { isVisible, shownPart, straightened } from "../../image/resize/straighten.js";
import type { DecodedPicture } from "../../stages/decode.js";
import { type Picture, pixelsOf } from "../../stages/pictures.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { driftText } from "./drift-text.js";

/** The parameters of what happens after decoding. */
export interface FinishSettings {
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
const VERSION = 2;

/** Share of a side that may be cropped for drift to be told against all of picture 1: more was cut off by a size of another shape that was asked for. */
const MOST_CUT = 0.1;

const FEATHER = 1 / 64;

/** Largest difference of aspects (natural logarithm) between a mask and picture 1. */
const ASPECT_TOLERANCE = 0.01;

/** Throws QEDIT_E_USAGE for parameters without effect and for an unusable mask. Called before anything is computed. */
export function checkFinish({ pictures: [first], mask }: Originals, { pasteBack, feather }: FinishSettings): void {
  for (const [name, value] of Object.entries({ mask, feather })) {
    if (value !== undefined && !pasteBack)
      throw new QeditError("QEDIT_E_USAGE", `${param(name)} has no effect without ${param("paste_back")}`, {
        hint: `Add ${param("paste_back")}, or leave out ${param(name)}`,
        parameter: name,
      });
  }
  if (mask === undefined || first === undefined) return;
  const { width, height, data } = mask.image;
  const [name, size] = [basename(mask.name), `${width}x${height}`];
  if (Math.abs(Math.log(width / height / (first.image.width / first.image.height))) > ASPECT_TOLERANCE) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${name} as mask: it is ${size}, picture 1 is ${first.image.width}x${first.image.height}`,
      { hint: `Paint it over ${first.name}, white where the edit belongs`, parameter: "mask" },
    );
  }
  if (data.some((value) => value >= 128)) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${name} as mask: it is black everywhere, so nothing of the edit would be kept`,
    { hint: "Paint white where the edit belongs; transparency does not count", parameter: "mask" },
  );
}

/** Measures and emits the drift of a decoded picture; pastes back if requested. */
export async function finish(
  picture: DecodedPicture,
  { pictures: [read], mask }: Originals,
  settings: FinishSettings,
  emit: Emit,
): Promise<FinishedPicture> {
  if (read === undefined) return { ...picture, drift: undefined };
  const first = { ...read, image: pixelsOf(read, settings) };
  const frame = frameOf(picture);
  const drift = inWhole(measureDrift(picture.image, first.image, frame.seen), frame, { first, picture });
  emit({ kind: "drift", ...(drift && { zoom: drift.zoom, right: drift.x, down: drift.y }), text: driftText(drift) });
  const whole = frame.hasRim
    ? { ...picture, image: await withOwnRim(picture.image, first.image, frame.inside) }
    : picture;
  if (!settings.pasteBack) return { ...whole, drift };
  const { image, share, info } = await paste(picture, first, { settings, mask, frame });
  if (image === undefined) {
    const text = "paste back: the edit changed the whole picture, not a part of it: nothing was pasted back";
    emit({ kind: "warning", text });
    return { ...whole, info, drift };
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
  /** Whether the result has picture 1's pixels around what the models made, so many of them as were cropped. */
  readonly hasRim: boolean;
  /** Resize picture 1 to the result's size. */
  readonly steps: readonly Step[];
}

// As encode-image recorded it. With --keep-size the result and picture 1 align pixel by pixel.
function frameOf({ image, info }: DecodedPicture): Frame {
  const { target, images } = info.sizes as unknown as {
    target: { box: Box; steps: readonly Step[] };
    images: readonly { source: Size }[];
  };
  const inside = { x: 0, y: 0, width: image.width, height: image.height };
  const { source } = images[0]!;
  const whole = { x: 0, y: 0, ...source };
  const hasKeptSize = (info.settings["decode"] as { keep_size: boolean }).keep_size;
  const { box } = target;
  const hasRim = hasKeptSize && (box.width < source.width || box.height < source.height);
  if (hasKeptSize) return { seen: whole, inside: box, hasRim, steps: [] };
  return { seen: box, inside, hasRim, steps: target.steps };
}

interface Pasting {
  readonly settings: FinishSettings;
  readonly mask: Picture | undefined;
  readonly frame: Frame;
}

// No picture if the change is not local.
async function paste(
  picture: DecodedPicture,
  first: Picture,
  { settings, mask, frame }: Pasting,
): Promise<{ image: Image | undefined; share: number; info: DecodedPicture["info"] }> {
  const original = toBytes(applySteps(first.image, frame.steps), "round");
  // Against what the models saw of picture 1, where the drift that is told is against all of it.
  const drift = measureDrift(picture.image, original);
  const isMoved = drift !== undefined && isVisible(drift, picture.image);
  const result = isMoved ? straightened(picture.image, drift) : picture.image;
  const inside = isMoved ? shownPart(frame.inside, drift, picture.image) : frame.inside;
  const feather = settings.feather ?? Math.round(Math.min(result.width, result.height) * FEATHER);
  const change = mask === undefined ? await changeInside(result, original, inside) : undefined;
  if (change?.isLocal === false) return { image: undefined, share: 1, info: picture.info };
  const alpha =
    change !== undefined ? alphaAround(change.mask, feather) : maskAlpha(mask!.image, first, { frame, feather });
  const { info } = picture;
  return {
    image: pasted(result, original, { alpha, box: inside }),
    share: editedShare(alpha),
    info: {
      ...info,
      settings: { ...info.settings, paste_back: { version: VERSION, mask: mask !== undefined, feather } },
      ...(mask !== undefined && {
        inputs: { ...info.inputs, mask: mask.hash },
        names: { ...info.names, mask: basename(mask.name) },
      }),
    },
  };
}

// Compares inside the edited box only: outside it, the result holds repeated edge pixels.
async function changeInside(result: Image, original: Image, box: Box): Promise<Change> {
  const { mask, isLocal } = await changeOf(crop(result, box), crop(original, box));
  const data = new Uint8Array(original.width * original.height);
  for (let row = 0; row < box.height; row++)
    data.set(mask.data.subarray(row * box.width, (row + 1) * box.width), (box.y + row) * original.width + box.x);
  return { mask: { width: original.width, height: original.height, data }, isLocal };
}

function maskAlpha(mask: Image, { image }: Picture, { frame, feather }: { frame: Frame; feather: number }): Alpha {
  const over = resize(mask, { width: image.width, height: image.height }, "lanczos");
  return alphaOfPicture(toBytes(applySteps(over, frame.steps), "round"), feather);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
