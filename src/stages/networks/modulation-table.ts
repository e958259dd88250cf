// The modulation vectors of a whole run, computed before it. Their linears are a third of the transformer's weights: they are read once, a few
// blocks at a time, and are not in the session that samples. The vectors are cached in a file for the next run with the same noise levels.
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { decodeSafetensors } from "../../checkpoint/safetensors/safetensors.js";
import { encodeSafetensors } from "../../checkpoint/safetensors/safetensors-writer.js";
import { toFloat32 } from "../../checkpoint/stored-numbers.js";
import { Weights } from "../../checkpoint/weights.js";
import { deviceIdentity } from "../../engine/device-identity.js";
import { modelOf, withSession } from "../../engine/sessions/engine.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import type { FedGraph, Transformer } from "../../models/transformer-family.js";
import { writeFileAtomically } from "../../std/files.js";
import { float32, type Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import { type ActiveLora, strengthsOf } from "./loras.js";
import { type ModelHandle, type SizedFile, stampsOf } from "./model-handle.js";

/** Raised when the same transformer and noise levels give other vectors, or the file format changes. */
const VERSION = 1;
/** Noise levels in memory at a time, 8.8 MB each at the published size; a longer run computes the next ones when it reaches them. */
const MAX_LEVELS = 48;
/** Files in the folder; the least recently used are deleted. */
const MAX_FILES = 48;

/** A transformer and its active LoRAs. */
export interface ModulatedTransformer {
  readonly file: ModelHandle;
  readonly network: Transformer;
  readonly compute: DType;
  readonly loras: readonly ActiveLora[];
  /** How often its schedule evaluates it, see scheduledEvaluations; undefined: any number of times. */
  readonly evaluations?: number | undefined;
}

/** The modulation of a run. */
export interface ModulationTable {
  /** The modulation feeds of some graphs at a noise level. */
  feeds(sigma: number, graphs: readonly FedGraph[]): Promise<Tensors>;
}

/** Vectors [levels, vectors · width], with one more row for sigma 0 if references are modulated at sigma 0. */
interface Table {
  readonly sigmas: readonly number[];
  readonly data: Float32Array;
}

/** The modulation of a run at these noise levels, from its file or computed. Other levels are computed when they are requested. */
export async function openModulation(
  transformer: ModulatedTransformer,
  sigmas: readonly number[],
  context: StageContext,
): Promise<ModulationTable> {
  const { modulation } = transformer.network;
  const length = rowLength(transformer.network);
  let table = await cachedTable(transformer, sigmas.slice(0, MAX_LEVELS), context);
  return {
    async feeds(sigma, graphs) {
      const level = Math.fround(sigma);
      if (!table.sigmas.includes(level)) {
        const next = sigmas.indexOf(level);
        table = await computeTable(transformer, next < 0 ? [level] : sigmas.slice(next, next + MAX_LEVELS), context);
      }
      const row = table.sigmas.indexOf(level);
      const fed = graphs.map((graph) => modulation.fed({ data: table.data, length }, row, graph));
      return Object.fromEntries(fed.map(({ name, value }) => [name, value]));
    },
  };
}

/** Peak bytes of weights in memory while the modulation is computed. */
export function modulationBytes({
  file,
  network: { blocks, modulation },
}: {
  readonly file: SizedFile;
  readonly network: Transformer;
}): number {
  const stored = [...file.checkpoint.tensors].filter(([name]) => modulation.isModule(name.replace(/\.[^.]+$/, "")));
  const share = Math.max(...modulation.ranges.map(({ from, to }) => to - from)) / blocks;
  return Math.ceil(stored.reduce((sum, [, { length }]) => sum + length, 0) * share);
}

async function cachedTable(
  transformer: ModulatedTransformer,
  sigmas: readonly number[],
  context: StageContext,
): Promise<Table> {
  const { modulationFolder: folder } = context;
  if (folder === undefined) return computeTable(transformer, sigmas, context);
  const path = join(folder, `${keyOf(transformer, sigmas, context)}.safetensors`);
  const cached = await readTable(path, valuesOf(transformer.network, sigmas));
  if (cached) {
    context.emit({ kind: "detail", text: `modulation of ${sigmas.length} noise levels taken from ${path}` });
    return { sigmas, data: cached };
  }
  const table = await computeTable(transformer, sigmas, context);
  try {
    await writeFileAtomically(path, encodeTable(table.data, transformer.compute), { isPrivate: true });
    await evictOldFiles(folder);
  } catch (error) {
    context.emit({
      kind: "detail",
      text: `the modulation is not kept: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
  return table;
}

// Hash of everything that determines the vectors: weights, LoRAs on modulation modules, compute type, noise levels and device.
function keyOf(
  { file, network, compute, loras }: ModulatedTransformer,
  sigmas: readonly number[],
  { engine }: StageContext,
): string {
  const { isModule } = network.modulation;
  const modulationLoras = loras.filter(({ adapter }) => [...adapter.modules.keys()].some(isModule));
  const weights = {
    transformer: [file.identity, file.states],
    loras: modulationLoras.map(({ identity, states, strength }) => [identity, states, strength]),
  };
  const parts = {
    version: VERSION,
    weights,
    config: network.key,
    compute,
    sigmas,
    device: deviceIdentity(engine.device),
  };
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

const VECTORS_KEY = "modulation";
const CHECKSUM_KEY = "content_sha256";

function encodeTable(data: Float32Array, compute: DType): Uint8Array {
  // Computed in bfloat16, the vectors are bfloat16 numbers: storing them as BF16 loses nothing.
  const stored = { ...float32([data.length], data), ...(compute === "bf16" ? { storedAs: "BF16" as const } : {}) };
  const [bytes, { length }] = [encodeSafetensors({ [VECTORS_KEY]: stored }), data];
  const contentChecksum = checksum(bytes.subarray(bytes.length - length * (compute === "bf16" ? 2 : 4)));
  return encodeSafetensors({ [VECTORS_KEY]: stored }, { [CHECKSUM_KEY]: contentChecksum });
}

// undefined if the file cannot be read or its checksum differs.
async function readTable(path: string, values: number): Promise<Float32Array | undefined> {
  try {
    const bytes = await readFile(path);
    const { tensors, metadata } = decodeSafetensors(bytes, path);
    const stored = tensors.get(VECTORS_KEY)!;
    const content = bytes.subarray(stored.offset, stored.offset + stored.length);
    if (metadata[CHECKSUM_KEY] !== checksum(content) || stored.shape[0] !== values) return undefined;
    const now = new Date();
    await utimes(path, now, now).catch(() => undefined);
    return toFloat32(stored.dtype, Uint8Array.from(content));
  } catch {
    return undefined;
  }
}

function checksum(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

async function evictOldFiles(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".safetensors"));
  const aged = await Promise.all(
    names.map(async (name) => ({ name, used: (await stat(join(folder, name)).catch(() => undefined))?.mtimeMs ?? 0 })),
  );
  for (const { name } of aged.sort((a, b) => b.used - a.used).slice(MAX_FILES))
    await rm(join(folder, name), { force: true });
}

async function computeTable(
  transformer: ModulatedTransformer,
  sigmas: readonly number[],
  context: StageContext,
): Promise<Table> {
  const { file, network, compute, loras } = transformer;
  context.emit({ kind: "activity", text: "computing the modulation" });
  const data = new Float32Array(valuesOf(network, sigmas));
  const rows = rowsOf(network, sigmas);
  const length = data.length / rows;
  const feeds = { timestep: float32([sigmas.length], Float32Array.from(sigmas)), ...strengthsOf(loras) };
  let at = 0;
  for (const blocks of network.modulation.ranges) {
    context.signal.throwIfAborted();
    const graph = new Graph(`the modulation of blocks ${blocks.from} to ${blocks.to - 1}`, {
      widening: wideningOf("none", context.engine.device),
    });
    const adapters = loras.map(({ adapter }) => adapter);
    network.modulation.build(graph, Weights.of(graph, file.checkpoint, adapters), { compute, blocks });
    const stamps = stampsOf(file, loras);
    const model = { ...(await modelOf(graph, "none", "modulation")), stamps, isTransient: true };
    const { modulation } = await withSession(context.engine, model, (session) => session.run(feeds));
    const found = modulation!.data as Float32Array;
    const width = found.length / rows;
    for (let row = 0; row < rows; row += 1) data.set(found.subarray(row * width, (row + 1) * width), row * length + at);
    at += width;
  }
  return { sigmas, data };
}

function valuesOf(network: Transformer, sigmas: readonly number[]): number {
  return rowsOf(network, sigmas) * rowLength(network);
}

function rowsOf({ modulation }: Transformer, sigmas: readonly number[]): number {
  return sigmas.length + (modulation.hasZeroRow ? 1 : 0);
}

function rowLength({ modulation, blocks, width }: Transformer): number {
  return modulation.storedVectors({ from: 0, to: blocks }) * width;
}
