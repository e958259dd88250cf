// Edits made pictures with an exported folder and with qedit itself, and compares latents and pixels.

import { type ClientEdit, type ClientNumbers, clientInputs, clientNumbers } from "../../edit/remote/client-inputs.js";
import { type EnsembleKind, ensembleName } from "../../edit/remote/exported-facts.js";
import { conventionsOf } from "../../edit/remote/exported-families.js";
import type { ResolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { openService } from "../../edit/service/service.js";
import { chooseEngine } from "../../engine/device.js";
import { computeType, deviceName } from "../../engine/providers.js";
import { withoutOpaque } from "../../image/alpha.js";
import { CHANNELS, fromBytes, type Image, RGBA_CHANNELS, type Size } from "../../image/image.js";
import { vaeStatistics } from "../../models/vaes.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { normalisedLatent } from "../../stages/networks/velocity.js";
import type { Picture } from "../../stages/pictures.js";
import { samplingOf } from "../../stages/sample.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { Tensor } from "../../std/tensor.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import { runEnsemble } from "./ensemble-interpreter.js";
import type { TritonExport } from "./export-request.js";
import { exportedKinds } from "./exported-kinds.js";

/** Largest difference of latents, as a share of their largest value, and of pixels, in 255ths: by whether all networks compute in float32. */
const TOLERANCE = { float32: { latents: 1e-5, pixels: 1 }, reduced: { latents: 0.05, pixels: 16 } };

/** Small, and no side like another. */
const SIZES = [
  { width: 97, height: 61 },
  { width: 70, height: 83 },
  { width: 88, height: 40 },
];
const PROMPT = "make it winter";
const NEGATIVE_PROMPT = "blurry";
const MEGAPIXELS = 0.015;
const STEPS = 2;
const GUIDED = 2.5;
const SEED = 42n;

/** How much an ensemble differs from qedit. */
export interface Difference {
  readonly ensemble: string;
  /** As a share of the largest value. */
  readonly latents: number;
  /** In 255ths. */
  readonly pixels: number;
}

/** Compares each ensemble of an exported folder with qedit, on the device of the export. Throws QEDIT_E_BAD_OUTPUT for one that differs, QEDIT_E_DEVICE. */
export async function verifyExport(
  folder: string,
  exported: TritonExport,
  { emit, signal }: { readonly emit: Emit; readonly signal: AbortSignal },
): Promise<Difference[]> {
  const device = deviceName(exported.device);
  // What qedit says about the made pictures is of no use to anyone.
  const service = await openService({ device, threads: exported.device.threads, emit: () => {}, signal });
  const { engine } = await chooseEngine(device, exported.device.threads);
  try {
    const numbers = clientNumbers(exported.models);
    const tokenizer = await loadTokenizer(conventionsOf(numbers.family).vocabulary);
    const differences: Difference[] = [];
    for (const kind of exportedKinds(exported)) {
      const name = ensembleName(kind);
      emit({ kind: "activity", text: `verifying ${name}` });
      const edit = editOf(kind, exported.settings, numbers);
      const wanted = await edited(edit, exported, service);
      const made = await runEnsemble(name, clientInputs(edit, numbers, tokenizer), {
        ...{ folder, engine, signal },
      });
      const difference = differenceOf(name, made, wanted);
      refuseDifferent(difference, exported);
      emit({ kind: "detail", text: `${name}: ${differenceText(difference)}` });
      differences.push(difference);
    }
    return differences;
  } finally {
    await engine.dispose();
    await service.close();
  }
}

/** A difference in words. */
export function differenceText({ latents, pixels }: Difference): string {
  return `latents differ by ${latents.toExponential(1)} of their largest value, pixels by ${pixels} of 255`;
}

function editOf(
  { images, hasCfg }: EnsembleKind,
  settings: ResolvedSettings,
  { imageChannels }: Pick<ClientNumbers, "imageChannels">,
): ClientEdit {
  const sampling = { ...settings, ...numbersOfRun(hasCfg) };
  return {
    pictures: Array.from({ length: images }, (_, index) =>
      madePicture(SIZES[index % SIZES.length]!, { index, isTransparent: imageChannels === RGBA_CHANNELS }),
    ),
    prompt: PROMPT,
    negativePrompt: hasCfg ? NEGATIVE_PROMPT : undefined,
    sizes: { megapixels: MEGAPIXELS, size: undefined, match: undefined },
    sampling: samplingOf(sampling),
  };
}

function numbersOfRun(hasCfg: boolean) {
  return { sampler: "euler", steps: STEPS, denoise: 1, seed: SEED, cfg: hasCfg ? GUIDED : 1 } as const;
}

interface Edited {
  readonly latents: Tensor;
  readonly image: Image;
}

async function edited(
  { pictures, prompt, negativePrompt, sizes: { megapixels } }: ClientEdit,
  { models, files, settings }: TritonExport,
  service: Awaited<ReturnType<typeof openService>>,
): Promise<Edited> {
  let latents: Tensor | undefined;
  let image: Image | undefined;
  const { config, checkpoint } = models.vae;
  const statistics = vaeStatistics(numbersOf(checkpoint), config);
  const resolved = {
    models,
    files,
    settings: {
      ...settings,
      ...numbersOfRun(negativePrompt !== undefined),
      ...{ prompt, negativePrompt, megapixels, size: undefined, match: undefined, resolutionSteps: undefined },
      ...{ keepSize: false, pasteBack: false, cropMask: false, mask: undefined, keepExif: false },
    },
  };
  await service.submit({
    resolved,
    pictures: async () => pictures,
    async onArtifact({ kind, tensors }) {
      // The graphs' latents are normalised.
      if (kind === "samples") latents = normalisedLatent(tensors["latent_tensor"] as Tensor<"float32">, statistics);
    },
    async onPicture(picture) {
      image = picture.image;
    },
  }).outcome;
  return { latents: latents!, image: image! };
}

// Slopes and stripes, so that a shifted or mirrored picture is another one.
function madePicture(
  { width, height }: Size,
  { index, isTransparent }: { readonly index: number; readonly isTransparent: boolean },
): Picture {
  const data = new Uint8Array(width * height * CHANNELS);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const stripe = (x + 2 * y + 5 * index) % 17 < 6 ? 60 : 0;
      data.set(
        [(x * 190) / width + stripe, (y * 190) / height + stripe, 120 - stripe / 2 + 20 * index],
        (y * width + x) * CHANNELS,
      );
    }
  }
  const picture = { name: `picture ${index + 1}`, image: { width, height, data }, hash: `made ${index}` };
  // More and more opaque to the right.
  const alpha = Uint8Array.from({ length: width * height }, (_, at) => (255 * (at % width)) / width);
  return isTransparent ? { ...picture, alpha } : picture;
}

function differenceOf(
  ensemble: string,
  { latents, image }: Readonly<Record<string, Tensor>>,
  wanted: Edited,
): Difference {
  const [made, right] = [latents!.data as Float32Array, wanted.latents.data as Float32Array];
  const largest = right.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return {
    ensemble,
    latents: largestDifference(made, right) / largest,
    pixels: largestDifference(pictureOf(image!).data, wanted.image.data),
  };
}

// As decode gives it.
function pictureOf({ shape, data }: Tensor): Image {
  return withoutOpaque(fromBytes({ type: "uint8", shape: [1, ...shape], data: data as Uint8Array<ArrayBuffer> }));
}

// Infinity where the lengths differ or a value is not finite.
function largestDifference(a: Float32Array | Uint8Array, b: Float32Array | Uint8Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= most)) most = Number.isFinite(difference) ? difference : Number.POSITIVE_INFINITY;
  }
  return most;
}

function refuseDifferent(difference: Difference, { device, settings }: TritonExport): void {
  const types = [
    computeType(device, "vae", settings.vaeDtype),
    computeType(device, "text-encoder", settings.textDtype),
    computeType(device, "transformer", settings.dtype),
  ];
  const { latents, pixels } = TOLERANCE[types.every((type) => type === "f32") ? "float32" : "reduced"];
  if (difference.latents <= latents && difference.pixels <= pixels) return;
  throw new QeditError(
    "QEDIT_E_BAD_OUTPUT",
    `Cannot export: ${difference.ensemble} edits otherwise than qedit: ${differenceText(difference)}, at most ${latents} and ${pixels} are wanted`,
    { hint: "This is a bug in qedit: report it with the names of the model files" },
  );
}
