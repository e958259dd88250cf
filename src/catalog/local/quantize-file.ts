// `models quantize`: a transformer or a text encoder with its large matrices rounded to 8 or 4 bits, as one .safetensors file.
import { type FileHandle, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Checkpoint, StoredTensor } from "../../checkpoint/checkpoint.js";
import { PART_NAMES, type PackedForm, packedMetadata } from "../../checkpoint/packed/packed-file.js";
import { asComputed } from "../../checkpoint/packed/packed-layout.js";
import { type Rounding, rounded } from "../../checkpoint/packed/quantize.js";
import { type ModelPart, publishedNames } from "../../checkpoint/published-names.js";
import { readBytes } from "../../checkpoint/read-tensor.js";
import { metadataObject } from "../../checkpoint/safetensors/safetensors-header.js";
import { encodeHeader, type HeaderEntry } from "../../checkpoint/safetensors/safetensors-writer.js";
import { readScaledRows } from "../../checkpoint/scaled-rows.js";
import { SCALE_NAMES } from "../../checkpoint/weight-scales.js";
import { isModulationModule } from "../../models/qwen-image/modulation.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import { existsAlready, streamAtomically } from "../../std/files.js";
import { isObject } from "../../std/guards.js";
import { freeBytes } from "../download/disk.js";
import { examine, PART_OF } from "./examine.js";

/** Weights that are read at a time. */
const CHUNK_WEIGHTS = 2 ** 20;

/** How a file is quantised. */
export interface Quantizing extends Rounding {
  readonly overwrite: boolean;
  readonly signal: AbortSignal;
  /** Takes the bytes written so far, and all that there will be. */
  readonly onProgress: (done: number, total: number) => void;
}

/** What was written. */
export interface Quantized {
  readonly path: string;
  readonly part: ModelPart;
  /** Bytes of the weights before, and of the file. */
  readonly bytesBefore: number;
  readonly bytes: number;
  /** Matrices that were rounded, and tensors that stayed as they are. */
  readonly matrices: number;
  readonly kept: number;
  /** Root mean square of the rounding errors over that of the weights: of all of them, and of the layer where it is largest. */
  readonly error: number;
  readonly worst: { readonly name: string; readonly error: number };
}

/** Matrices that keep their precision: what is before and behind the blocks, what depends on the noise level alone, and what is looked up. */
function isKept(name: string, part: ModelPart): boolean {
  const module = name.replace(/\.weight$/, "");
  if (part === "transformer") return !/^transformer_blocks\./.test(module) || isModulationModule(module);
  return !/^(model\.layers|visual\.blocks)\./.test(module);
}

/**
 * Writes `path` with the matrices of a checkpoint's blocks rounded. Throws QEDIT_E_CHECKPOINT for what is no transformer or text encoder or is quantised
 * to blocks already, QEDIT_E_EXISTS, QEDIT_E_IO without room, and the signal's reason; nothing half-written is left.
 */
export async function quantizeFile(opened: Checkpoint, path: string, options: Quantizing): Promise<Quantized> {
  const { part, checkpoint } = await partOf(opened);
  const plan = plannedFile(checkpoint, part, options);
  const { header, dataBytes } = encodeHeader(plan.entries, plan.metadata, { isOrdered: true });
  const bytes = header.length + dataBytes;
  if (!options.overwrite && (await stat(path).catch(() => undefined))) throw existsAlready(path);
  const folder = dirname(path);
  const free = await freeBytes(folder);
  if (bytes > free)
    throw new QeditError(
      "QEDIT_E_IO",
      `Cannot write ${path}: ${decimalSize(bytes)} are needed, ${decimalSize(free)} are free`,
      {
        hint: "Free some space, or write to another disk",
      },
    );
  const follow = { ...options, onBytes: (done: number) => options.onProgress(done, bytes) };
  const errors = await streamAtomically(
    path,
    (handle) => writeAll(handle, { header, checkpoint, plan, follow }),
    options,
  );
  return {
    ...{ path, part, bytes, ...errors },
    bytesBefore: plan.sources.reduce((sum, { stored }) => sum + stored.length, 0),
    matrices: plan.sources.filter(({ isRounded }) => isRounded).length,
    kept: plan.sources.filter(({ isRounded }) => !isRounded).length,
  };
}

async function partOf(opened: Checkpoint): Promise<{ part: ModelPart; checkpoint: Checkpoint }> {
  const identity = await examine(opened);
  const part = PART_OF[identity.kind];
  const refuse = (reason: string, hint: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot quantise ${opened.file}: ${reason}`, { hint });
  if (identity.refusal !== undefined) throw refuse(identity.refusal, "`qedit inspect FILE` says what it is");
  if (part !== "transformer" && part !== "text_encoder")
    throw refuse(`it is ${identity.network}`, "Give a transformer or a text encoder, as qedit runs them");
  const checkpoint = publishedNames(opened, part);
  if ([...asComputed(checkpoint).tensors.values()].some(({ packed }) => packed))
    throw refuse("it is quantised already", "Start from bf16 or fp8: rounding twice loses more");
  return { part, checkpoint };
}

interface PlannedFile {
  readonly sources: readonly { readonly name: string; readonly stored: StoredTensor; readonly isRounded: boolean }[];
  readonly entries: readonly HeaderEntry[];
  readonly metadata: Readonly<Record<string, string>>;
}

function plannedFile(checkpoint: Checkpoint, part: ModelPart, { bits, block }: Rounding): PlannedFile {
  const { tensors } = checkpoint;
  const isRounded = (name: string, { shape, dtype }: StoredTensor) =>
    name.endsWith(".weight") &&
    shape.length === 2 &&
    shape[1]! % block === 0 &&
    /^(F32|F16|BF16|F8_E4M3|F8_E5M2|I8)$/.test(dtype) &&
    !isKept(name, part);
  const gone = new Set([...tensors].flatMap(([name, stored]) => (isRounded(name, stored) ? besideOf(name) : [])));
  const sources = [...tensors]
    .filter(([name]) => !gone.has(name))
    .map(([name, stored]) => ({ name, stored, isRounded: isRounded(name, stored) }));
  const forms = new Map<string, PackedForm>();
  const entries = sources.flatMap(({ name, stored: { dtype, shape }, isRounded: isOne }): HeaderEntry[] => {
    if (!isOne) return [{ name, dtype, shape }];
    forms.set(name, { type: bits === 8 ? "INT8" : "INT4", bits, block, zero: 2 ** (bits - 1) });
    const [rows, columns] = shape as [number, number];
    return [
      { name, dtype: "U8", shape: [rows, (columns * bits) / 8] },
      { name: name + PART_NAMES.scales, dtype: "F16", shape: [rows, columns / block] },
    ];
  });
  return { sources, entries, metadata: { ...withoutLayers(checkpoint.metadata, forms), ...packedMetadata(forms) } };
}

/** The metadata key under which ComfyUI's tools say how layers are quantised. */
const LAYERS_KEY = "_quantization_metadata";

// What the file said of layers that are rounded now is no longer so.
function withoutLayers(
  { [LAYERS_KEY]: text, ...metadata }: Checkpoint["metadata"],
  rounded: ReadonlyMap<string, PackedForm>,
): Checkpoint["metadata"] {
  const described = metadataObject(text);
  const layers = described?.["layers"];
  if (!isObject(layers)) return text === undefined ? metadata : { ...metadata, [LAYERS_KEY]: text };
  const names = [...rounded.keys()];
  const isRounded = (module: string) => names.some((name) => `.${name}`.endsWith(`.${module}.weight`));
  const kept = Object.fromEntries(Object.entries(layers).filter(([module]) => !isRounded(module)));
  return { ...metadata, [LAYERS_KEY]: JSON.stringify({ ...described, layers: kept }) };
}

// The scales of a weight in 8 bits, and what is beside them: what is rounded has its own.
function besideOf(weight: string): string[] {
  const module = weight.slice(0, -"weight".length);
  return [...SCALE_NAMES, "scale_input", "input_scale", "comfy_quant"].map((each) => module + each);
}

async function writeAll(
  handle: FileHandle,
  {
    header,
    checkpoint,
    plan,
    follow,
  }: {
    header: Uint8Array;
    checkpoint: Checkpoint;
    plan: PlannedFile;
    follow: Rounding & { signal: AbortSignal; onBytes: (done: number) => void };
  },
): Promise<Pick<Quantized, "error" | "worst">> {
  let at = 0;
  const write = async (bytes: Uint8Array, place = at) => {
    await handle.write(bytes, 0, bytes.length, place);
    return bytes.length;
  };
  at += await write(header);
  let [errorSquares, squares, worst] = [0, 0, { name: "", error: 0 }];
  for (const { name, stored, isRounded } of plan.sources) {
    follow.signal.throwIfAborted();
    if (isRounded) {
      const one = await writeRounded({ name, stored, checkpoint, follow, at, write });
      at += one.bytes;
      errorSquares += one.errorSquares;
      squares += one.squares;
      const error = ratio(one);
      if (error > worst.error) worst = { name, error };
    } else at += await write(await readBytes(stored));
    follow.onBytes(at);
  }
  return { error: ratio({ errorSquares, squares }), worst };
}

function ratio({ errorSquares, squares }: { errorSquares: number; squares: number }): number {
  return squares === 0 ? 0 : Math.sqrt(errorSquares / squares);
}

async function writeRounded({
  name,
  stored,
  checkpoint,
  follow,
  at,
  write,
}: {
  name: string;
  stored: StoredTensor;
  checkpoint: Checkpoint;
  follow: Rounding & { signal: AbortSignal };
  at: number;
  write: (bytes: Uint8Array, place: number) => Promise<number>;
}): Promise<{ bytes: number; errorSquares: number; squares: number }> {
  const [rows, columns] = stored.shape as [number, number];
  const [codesAt, scalesAt] = [at, at + (rows * columns * follow.bits) / 8];
  let [codes, scales, errorSquares, squares] = [0, 0, 0, 0];
  const most = Math.max(1, Math.floor(CHUNK_WEIGHTS / columns));
  for (let first = 0; first < rows; first += most) {
    follow.signal.throwIfAborted();
    const wanted = Array.from({ length: Math.min(most, rows - first) }, (_, index) => first + index);
    const values = await readScaledRows(checkpoint, name.slice(0, -".weight".length), wanted);
    if (!values.every(Number.isFinite))
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot quantise ${checkpoint.file}: "${name}" holds NaN or infinity`,
        {
          hint: "The file is damaged: `qedit models verify` compares it with what was published",
        },
      );
    const part = rounded(values, follow);
    codes += await write(part.codes, codesAt + codes);
    scales += await write(new Uint8Array(part.scales.buffer), scalesAt + scales);
    errorSquares += part.errorSquares;
    squares += part.squares;
  }
  return { bytes: codes + scales, errorSquares, squares };
}
