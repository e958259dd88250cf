// What the server takes at most. Every number can be raised where the server is started.

import type { ResolvedSettings } from "../edit/resolve/resolve-edit.js";
import { param, QeditError } from "../std/errors.js";

/** The limits. */
export interface ServerLimits {
  /** Jobs that are queued or running. */
  readonly queue: number;
  /** Bytes of one request. */
  readonly body: number;
  readonly pictures: number;
  /** Pixels of one picture that is sent, in units of 1024². */
  readonly pictureMegapixels: number;
  /** Pixels of a result, in units of 1024². */
  readonly megapixels: number;
  readonly steps: number;
  /** Characters of a prompt. */
  readonly prompt: number;
}

/** The limits unless others are given. */
export const DEFAULT_LIMITS: ServerLimits = {
  queue: 64,
  body: 256 * 1024 ** 2,
  pictures: 10,
  pictureMegapixels: 128,
  megapixels: 4,
  steps: 200,
  // OpenAI's.
  prompt: 32_000,
};

const MEGAPIXEL = 1024 ** 2;

/** Throws QEDIT_E_USAGE for too many pictures. */
export function checkCount(count: number, limits: ServerLimits): void {
  if (count <= limits.pictures) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot take ${count} pictures: at most ${limits.pictures} are allowed`, {
    parameter: "image",
  });
}

/** Throws QEDIT_E_USAGE for an edit that takes longer or is larger than the server allows. */
export function checkWork(
  settings: Partial<Pick<ResolvedSettings, "steps" | "megapixels" | "size" | "prompt" | "negativePrompt">>,
  limits: ServerLimits,
): void {
  const { steps, megapixels, size, prompt = "", negativePrompt = "" } = settings;
  for (const [parameter, { length }] of Object.entries({ prompt, negative_prompt: negativePrompt }))
    if (length > limits.prompt)
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot use ${param(parameter)}: it has ${length} characters, at most ${limits.prompt} are allowed`,
        { parameter },
      );
  if (steps !== undefined && steps > limits.steps)
    throw new QeditError("QEDIT_E_USAGE", `Cannot take ${steps} steps: at most ${limits.steps} are allowed`, {
      parameter: "steps",
    });
  if (megapixels !== undefined && megapixels > limits.megapixels) throw tooLarge("megapixels", megapixels, limits);
  const pixels = size === undefined ? 0 : (size.width * size.height) / MEGAPIXEL;
  if (pixels > limits.megapixels) throw tooLarge("size", Number(pixels.toFixed(2)), limits);
}

/** Throws QEDIT_E_IMAGE for a picture of more pixels than the server allows. */
export function checkPixels(name: string, pixels: number, limits: ServerLimits): void {
  if (pixels <= limits.pictureMegapixels * MEGAPIXEL) return;
  throw new QeditError(
    "QEDIT_E_IMAGE",
    `Cannot take ${name}: it has ${Math.round(pixels / MEGAPIXEL)} megapixels, at most ${limits.pictureMegapixels} are allowed`,
    { hint: "Make it smaller", parameter: "image" },
  );
}

function tooLarge(parameter: "megapixels" | "size", wanted: number, limits: ServerLimits): QeditError {
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${param(parameter)}: ${wanted} megapixels are wanted, at most ${limits.megapixels} are allowed`,
    { parameter },
  );
}
