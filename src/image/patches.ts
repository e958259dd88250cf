// Cuts a picture into the rows that Qwen2.5-VL's vision tower reads.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy/text_encoders/qwen_vl.py (process_qwen2vl_images)
import { QeditError } from "../std/errors.js";
import { float32, type Tensor } from "../std/tensor.js";
import { CHANNELS, type FloatImage } from "./image.js";

/** Lengths by which the vision tower cuts a picture. */
export interface PatchConfig {
  /** Side of a patch, pixels. */
  readonly patch: number;
  /** Frames in a patch; a still picture is repeated. */
  readonly temporal: number;
  /** Side of the block of patches that becomes one token. */
  readonly merge: number;
  /** What red, green and blue are normalised by; CLIP's unless given. */
  readonly pixels?: PixelStatistics;
}

/** Mean and standard deviation of red, green and blue in 0..1. */
interface PixelStatistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** The published Qwen2.5-VL numbers. */
export const QWEN_PATCHES: PatchConfig = { patch: 14, temporal: 2, merge: 2 };

/** CLIP's normalisation of red, green and blue in 0..1, which Qwen2-VL kept. */
const PIXEL_STATISTICS = {
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
} as const;

/** What the vision tower takes: pixel_values [patches, 3 · temporal · patch²] and the patch grid [frames = 1, rows, columns]. */
export interface VisionPatches {
  readonly pixelValues: Tensor<"float32">;
  readonly grid: readonly [number, number, number];
}

/**
 * Normalises and cuts a picture, 0..1. Rows of pixel_values run over blocks of merge × merge patches, raster order outside and inside;
 * within a row: channel, frame, y, x. Throws QEDIT_E_ARTIFACT when a side is not a multiple of patch · merge.
 */
export function visionPatches(image: FloatImage, config: PatchConfig = QWEN_PATCHES): VisionPatches {
  const { patch, temporal, merge, pixels = PIXEL_STATISTICS } = config;
  const factor = patch * merge;
  if (image.width % factor !== 0 || image.height % factor !== 0) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot cut ${image.width}x${image.height} into patches: sides must be multiples of ${factor}`,
    );
  }
  const columns = image.width / patch;
  const rows = image.height / patch;
  const length = CHANNELS * temporal * patch * patch;
  const data = new Float32Array(rows * columns * length);
  let position = 0;
  for (const [row, column] of blockOrder({ rows, columns, merge })) {
    for (let channel = 0; channel < CHANNELS; channel++) {
      const frame = normalisedPatch(image, { x: column * patch, y: row * patch, side: patch, channel }, pixels);
      for (let repeat = 0; repeat < temporal; repeat++, position += frame.length) data.set(frame, position);
    }
  }
  return { pixelValues: float32([rows * columns, length], data), grid: [1, rows, columns] };
}

function* blockOrder({
  rows,
  columns,
  merge,
}: {
  rows: number;
  columns: number;
  merge: number;
}): Generator<[number, number]> {
  for (let top = 0; top < rows; top += merge) {
    for (let left = 0; left < columns; left += merge) {
      for (let y = 0; y < merge; y++) for (let x = 0; x < merge; x++) yield [top + y, left + x];
    }
  }
}

function normalisedPatch(
  image: FloatImage,
  { x, y, side, channel }: { x: number; y: number; side: number; channel: number },
  { mean: means, std: deviations }: PixelStatistics,
): Float32Array {
  const values = new Float32Array(side * side);
  const mean = Math.fround(means[channel] as number);
  const std = Math.fround(deviations[channel] as number);
  for (let i = 0; i < values.length; i++) {
    const pixel = (y + Math.floor(i / side)) * image.width + x + (i % side);
    values[i] = Math.fround((image.data[pixel * CHANNELS + channel] as number) - mean) / std;
  }
  return values;
}
