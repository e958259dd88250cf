// The order in which many edits go through the stages, so that every network is loaded once and fits into memory.
import type { LoraMatch } from "../../checkpoint/lora/lora.js";
import { storedParts } from "../../checkpoint/lora/module-adapter.js";
import type { ModelHandle } from "../../stages/networks/model-handle.js";
import type { StageName } from "../../stages/stage.js";
import type { ResolvedEdit } from "../resolve/resolve-edit.js";

/** An order, and why. */
export interface Order {
  /** Whether all jobs go through one stage, then the next; else each job goes through all stages, with every session kept open. */
  readonly isByStage: boolean;
  readonly reason: string;
}

/** Sessions per file: encoder and decoder of the VAE, vision tower and language model of the text encoder. */
const SESSIONS = { vae: 2, textEncoder: 2, transformer: 1 };

/** Key of the sessions of a stage: edits with equal keys share them. LoRAs are part of the graph, their strengths are feeds. */
export function groupOf(stage: StageName, { models, settings }: ResolvedEdit): string {
  const { vae, textEncoder, transformer, loras } = models;
  // A stage that runs elsewhere has no sessions here.
  if (stage === "encode-prompt") return JSON.stringify([textEncoder?.checkpoint.file, settings.textDtype]);
  if (stage === "sample")
    return JSON.stringify([transformer?.checkpoint.file, settings.dtype, ...loras.map(({ file }) => file)]);
  return JSON.stringify([vae?.checkpoint.file, settings.vaeDtype]);
}

/**
 * Job by job if all weights fit into memory (bytes) at once, so that first results come early; else stage by stage. Both load every network once.
 * If memory is unknown, stage by stage.
 */
export function chooseOrder(jobs: readonly ResolvedEdit[], memory: number | undefined): Order {
  if (jobs.length === 1) return { isByStage: true, reason: "1 job: stage by stage, each network closed after its use" };
  const sampling = jobs.filter(({ models }) => models.transformer !== undefined);
  const transformers = new Map(sampling.map((job) => [groupOf("sample", job), job]));
  const vaes = distinct(jobs.map(({ models }) => models.vae));
  const encoders = distinct(jobs.map(({ models }) => models.textEncoder));
  const loads =
    vaes.length * SESSIONS.vae + encoders.length * SESSIONS.textEncoder + transformers.size * SESSIONS.transformer;
  const sampled = [...transformers.values()].reduce((sum, { models: { transformer, loras } }) => {
    return sum + bytesOf(transformer!) + loras.reduce((bytes, { match }) => bytes + bytesOfAdapter(match), 0);
  }, 0);
  const bytes = sampled + [...vaes, ...encoders].reduce((sum, each) => sum + bytesOf(each), 0);
  const isByStage = memory === undefined || bytes > memory;
  const room = memory === undefined ? "how much memory is free is not known" : `${gigabytes(memory)} GB may be used`;
  const order = isByStage ? "stage by stage" : "job by job";
  return {
    isByStage,
    reason: `${jobs.length} jobs, ${gigabytes(bytes)} GB of weights, ${room}: ${order}, ${loads} loads at most`,
  };
}

function distinct(handles: readonly (ModelHandle | undefined)[]): readonly ModelHandle[] {
  const open = handles.filter((handle) => handle !== undefined);
  return [...new Map(open.map((handle) => [handle.checkpoint.file, handle])).values()];
}

function bytesOf({ checkpoint }: ModelHandle): number {
  return [...checkpoint.tensors.values()].reduce((sum, { length }) => sum + length, 0);
}

function bytesOfAdapter({ matched }: LoraMatch): number {
  return [...matched.values()].flatMap(storedParts).reduce((sum, { length }) => sum + length, 0);
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1);
}
