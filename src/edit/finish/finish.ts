// What happens after decoding: measures the drift from picture 1, and pastes pixels of picture 1 back if requested.
import { basename } from "node:path";
import { type Drift, measureDrift } from "../../image/compare/drift.js";
import { type Box, type Image, type Size, toBytes } from "../../image/image.js";
import type { Mask } from "../../image/paste/distance.js";
import { type Alpha, alphaAround, alphaOfPicture, changedMask, editedShare, pasted } from "../../image/paste/paste.js";
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
const VERSION = 1;

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
  const drift = measureDrift(picture.image, first.image, frame.seen);
  emit({ kind: "drift", ...(drift && { zoom: drift.zoom, right: drift.x, down: drift.y }), text: driftText(drift) });
  if (!settings.pasteBack) return { ...picture, drift };
  const { image, share, info } = await paste(picture, first, { settings, mask, drift, frame });
  emit({ kind: "note", text: `paste back: ${percent(share)} edited, the rest is ${first.name}` });
  if (share === 0)
    emit({
      kind: "warning",
      text: "the result differs nowhere from picture 1 by more than encoding does: all of it was pasted back",
    });
  return { ...picture, image, info, drift };
}

/** How the result aligns with picture 1. */
interface Frame {
  /** The box of picture 1 that the result shows, and its box in the result. */
  readonly seen: Box;
  readonly inside: Box;
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
  const hasKeptSize = (info.settings["decode"] as { keep_size: boolean }).keep_size;
  if (hasKeptSize) return { seen: { x: 0, y: 0, ...source }, inside: target.box, steps: [] };
  return { seen: target.box, inside, steps: target.steps };
}

interface Pasting {
  readonly settings: FinishSettings;
  readonly mask: Picture | undefined;
  readonly drift: Drift | undefined;
  readonly frame: Frame;
}

async function paste(
  picture: DecodedPicture,
  first: Picture,
  { settings, mask, drift, frame }: Pasting,
): Promise<{ image: Image; share: number; info: DecodedPicture["info"] }> {
  const original = toBytes(applySteps(first.image, frame.steps), "round");
  const isMoved = drift !== undefined && isVisible(drift, picture.image);
  const result = isMoved ? straightened(picture.image, drift) : picture.image;
  const inside = isMoved ? shownPart(frame.inside, drift, picture.image) : frame.inside;
  const feather = settings.feather ?? Math.round(Math.min(result.width, result.height) * FEATHER);
  const alpha =
    mask === undefined
      ? alphaAround(await changedInside(result, original, inside), feather)
      : maskAlpha(mask.image, first, { frame, feather });
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
function changedInside(result: Image, original: Image, inside: Box): Promise<Mask> {
  const everywhere = {
    width: original.width,
    height: original.height,
    data: new Float32Array(original.width * original.height).fill(1),
  };
  return changedMask(pasted(result, original, { alpha: everywhere, box: inside }), original);
}

function maskAlpha(mask: Image, { image }: Picture, { frame, feather }: { frame: Frame; feather: number }): Alpha {
  const over = resize(mask, { width: image.width, height: image.height }, "lanczos");
  return alphaOfPicture(toBytes(applySteps(over, frame.steps), "round"), feather);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
