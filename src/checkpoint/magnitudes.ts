// Whether 8-bit weights times their scales are of a size that weights of a trained layer have. A scale that is the inverse of what it should be, or
// is lost, is wrong by a factor of thousands, and nothing but the picture shows it.
import { type FileHandle, open } from "node:fs/promises";
import { QeditError } from "../std/errors.js";
import { ioFailure, readRange } from "../std/files.js";
import type { Checkpoint, StoredTensor } from "./checkpoint.js";
import { readTensor } from "./read-tensor.js";
import { toFloat32 } from "./stored-numbers.js";
import { isNarrow, scaleGrid, scaleNameOf } from "./weight-scales.js";

/**
 * Limits of the root mean square of a row of weights, by the median row, far from what trained layers have: those of the embedded model, which are large,
 * pass. A scale that is inverse is wrong by its square, one that is missing or applied twice by itself.
 */
const LARGEST_RMS = 16;
const SMALLEST_RMS = 1e-7;
/** Rows in the middle of a layer that are read, and weights at most. */
const SAMPLED_ROWS = 16;
const SAMPLED_WEIGHTS = 8192;

/** An 8-bit weight with its scale, if it has one. */
interface Layer {
  readonly name: string;
  readonly weight: StoredTensor;
  readonly scale: (StoredTensor & { readonly name: string }) | undefined;
}

/** Reads one or two rows of every 8-bit weight. Throws QEDIT_E_CHECKPOINT for one that is no weight of a trained layer, by its name. */
export async function refuseImplausibleWeights({ file, tensors }: Checkpoint): Promise<void> {
  const layers = [...tensors].flatMap(([name, weight]): Layer[] => {
    if (!isNarrow(weight) || !name.endsWith(".weight") || !/^(F8_E4M3|F8_E5M2|I8)$/.test(weight.dtype)) return [];
    const scaleName = scaleNameOf(tensors, name);
    const scale = scaleName === undefined ? undefined : { ...tensors.get(scaleName)!, name: scaleName };
    return weight.length > 0 ? [{ name, weight, scale }] : [];
  });
  for (const path of new Set(layers.map(({ weight }) => weight.file))) {
    try {
      const handle = await open(path);
      try {
        for (const layer of layers.filter(({ weight }) => weight.file === path)) {
          const reason = await implausibility(layer, handle);
          if (reason !== undefined) throw refusal(file, layer, reason);
        }
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw ioFailure("read", path, error);
    }
  }
}

async function implausibility({ weight, scale }: Layer, handle: FileHandle): Promise<string | undefined> {
  const { dtype, offset, length, shape } = weight;
  const rows = shape[0] ?? 1;
  const columns = length / rows;
  const scaleOf = scale === undefined ? () => 1 : await scaleReader({ weight, scale }, handle);
  if (typeof scaleOf === "string") return scaleOf;
  const count = Math.min(rows, SAMPLED_ROWS, Math.max(1, Math.floor(SAMPLED_WEIGHTS / columns)));
  const first = Math.floor((rows - count) / 2);
  const width = Math.min(columns, SAMPLED_WEIGHTS);
  const stored = toFloat32(dtype, await readRange(handle, offset + first * columns, (count - 1) * columns + width));
  const sizes = Array.from({ length: count }, (_, row) => {
    let squares = 0;
    let isZero = true;
    for (let column = 0; column < width; column += 1) {
      const value = stored[row * columns + column]!;
      isZero &&= value === 0;
      squares += (value * scaleOf(first + row, column)) ** 2;
    }
    return isZero ? undefined : Math.sqrt(squares / width);
  }).flatMap((size) => size ?? []);
  const size = sizes.sort((a, b) => a - b)[Math.floor(sizes.length / 2)];
  if (size === undefined || (size >= SMALLEST_RMS && size <= LARGEST_RMS)) return undefined;
  return `has rows of root mean square ${Number.isFinite(size) ? size.toPrecision(2) : "that is not finite"}, as no trained layer has`;
}

/** The scale of the weight at a row and a column, or why there is none. */
type ScaleReader = (row: number, column: number) => number;

async function scaleReader(
  { weight, scale }: { readonly weight: StoredTensor; readonly scale: StoredTensor },
  handle: FileHandle,
): Promise<ScaleReader | string> {
  const grid = scaleGrid(scale, weight);
  // What does not fit is refused where it is used.
  if (grid === undefined) return () => 1;
  const scales =
    scale.file === weight.file
      ? toFloat32(scale.dtype, await readRange(handle, scale.offset, scale.length))
      : await readTensor(scale);
  const wrong = scales.find((each) => !Number.isFinite(each) || each < 0);
  if (wrong !== undefined) return `has a scale of ${wrong}`;
  if (grid.per === "tensor") return () => scales[0]!;
  if (grid.per === "row") return (row) => scales[row]!;
  const across = Math.ceil(weight.length / weight.shape[0]! / grid.columns);
  return (row, column) => scales[Math.floor(row / grid.rows) * across + Math.floor(column / grid.columns)]!;
}

function refusal(file: string, { name, scale }: Layer, reason: string): QeditError {
  const [cause, hint] =
    scale === undefined
      ? ["its scale is missing", "Take a file that has its scales, or one in bf16: qedit models pull"]
      : [
          `the scale "${scale.name}" is not one that it is multiplied by`,
          "Take a file with other scales, or one in bf16: qedit models pull",
        ];
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${file}: "${name}" ${reason}; ${cause}`, { hint });
}
