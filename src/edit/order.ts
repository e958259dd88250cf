// In which order many edits go through the stages, so that every network is loaded once within the memory there is.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseLora } from "../stages/networks/loras.js";
import type { EditSettings } from "./edit.js";

/** The stages of an edit, in order. */
export const TURNS = ["encode-image", "encode-prompt", "sample", "decode"] as const;

/** Name of a stage. */
export type Turn = (typeof TURNS)[number];

/** An order, and why. */
export interface Order {
  /** All jobs through one stage, then the next; else each job through all stages, with every session kept open. */
  readonly isByStage: boolean;
  readonly reason: string;
}

/** Sessions that serve one file: encoder and decoder of the VAE, vision tower and language model of the text encoder. */
const SESSIONS = { vae: 2, textEncoder: 2, transformer: 1 };

/** What names the sessions of a stage: edits of one group use the same. LoRAs ride on the graph, their strengths do not. */
export function groupOf(
  turn: Turn,
  { vae, vaeDtype, textEncoder, textDtype, transformer, lora, dtype }: EditSettings,
): string {
  if (turn === "encode-prompt") return JSON.stringify([textEncoder, textDtype]);
  if (turn === "sample") return JSON.stringify([transformer, dtype, ...lora.map((each) => parseLora(each).path)]);
  return JSON.stringify([vae, vaeDtype]);
}

/**
 * Job by job when all weights fit into memory (bytes) at once, for then results come early; else stage by stage. Either loads every
 * network once. Unknown memory counts as none.
 */
export async function chooseOrder(jobs: readonly EditSettings[], memory: number | undefined): Promise<Order> {
  const transformers = new Set(jobs.map((settings) => groupOf("sample", settings)));
  const vaes = new Set(jobs.map(({ vae }) => vae));
  const encoders = new Set(jobs.map(({ textEncoder }) => textEncoder));
  const loads =
    vaes.size * SESSIONS.vae + encoders.size * SESSIONS.textEncoder + transformers.size * SESSIONS.transformer;
  const open = [
    ...vaes,
    ...encoders,
    ...[...transformers].flatMap((group) => (JSON.parse(group) as [string, string, ...string[]]).toSpliced(1, 1)),
  ];
  const bytes = await bytesOf(open.filter((path) => typeof path === "string"));
  const isByStage = memory === undefined || bytes > memory;
  const weights = `${gigabytes(bytes)} GB of weights, ${memory === undefined ? "and nobody knows how much memory is free" : `${gigabytes(memory)} GB may be used`}`;
  if (jobs.length === 1) return { isByStage, reason: "1 job: stage by stage, each network closed after its use" };
  const reason = `${jobs.length} jobs, ${weights}: ${isByStage ? "stage by stage" : "job by job"}, ${loads} loads at most`;
  return { isByStage, reason };
}

// A file that cannot be looked at fails in its job, with the reason.
async function bytesOf(paths: readonly string[]): Promise<number> {
  const sizes = await Promise.all(paths.map((path) => bytesAt(path).catch(() => 0)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

// A model may be a folder of shards.
async function bytesAt(path: string): Promise<number> {
  const found = await stat(path);
  return found.isDirectory() ? bytesOf((await readdir(path)).map((name) => join(path, name))) : found.size;
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1);
}
