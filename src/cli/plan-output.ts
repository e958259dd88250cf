// Makes a plan from settings as they were resolved, and prints it: what `plan` and `run --dry-run` have in common.
import { inspectMachine } from "../catalog/runtime/machine.js";
import type { PlanRequest } from "../edit/plan/edit-plan.js";
import type { FileSettings } from "../edit/plan/model-files.js";
import { planEdit } from "../edit/plan/plan-edit.js";
import { findGpus } from "../engine/cuda/gpus.js";
import { inspectCuda } from "../engine/cuda/inspect-cuda.js";
import { type Device, parseDevice } from "../engine/providers.js";
import { readSize } from "../image/io/read.js";
import type { Source } from "../image/resize/size-plan.js";
import { EXIT } from "../std/errors.js";
import { loadTokenizer } from "../text/tokenizer.js";
import type { ComputeSettings } from "./compute.js";
import { inputSources, inputText } from "./files/input.js";
import { planLines } from "./render/plan-lines.js";
import type { Terminal } from "./render/terminal.js";

/** What to plan. */
export interface PlanCall {
  readonly args: readonly string[];
  readonly settings: FileSettings & ComputeSettings;
  /** How many pictures are made of these. */
  readonly results: number;
  /** Claims that --vram stands for a card, which need not be in this machine. */
  readonly isForCard: boolean;
  /** Claims that `run` was called: then a missing file is a failure. */
  readonly isDryRun: boolean;
}

/** Prints the plan of an edit; gives EXIT.model for a dry run that would find a file missing. Throws what `run` would. */
export async function showPlan(
  { args, settings, results, isForCard, isDryRun }: PlanCall,
  terminal: Terminal,
): Promise<number> {
  const { device, reason } = await chosenDevice(settings, isForCard);
  const sources = await Promise.all((await inputSources(args)).map(sourceOf));
  const complete = { ...settings, prompt: await inputText(settings.prompt) };
  const memory = await memoryFor(device, settings.vram);
  const plan = await planEdit(complete, {
    sources,
    device,
    deviceReason: reason,
    tokenizer: await loadTokenizer(),
    results,
    ...memory,
  });
  terminal.result(plan, planLines(plan, terminal.style));
  return isDryRun && plan.totals.missingFiles > 0 ? EXIT.model : EXIT.ok;
}

async function sourceOf(source: string | { readonly name: string; readonly bytes: Uint8Array }): Promise<Source> {
  const name = typeof source === "string" ? source : source.name;
  return { name, ...(await readSize(typeof source === "string" ? source : source.bytes, name)) };
}

// As `run` would choose, but without opening a session.
async function chosenDevice(
  { device: wanted = "auto", threads = 0 }: ComputeSettings,
  isForCard: boolean,
): Promise<{ device: Device; reason: string | undefined }> {
  if (wanted !== "auto") return { device: parseDevice(wanted, threads), reason: undefined };
  if (isForCard) return { device: parseDevice("cuda", threads), reason: "--vram says so" };
  const [problem] = (await inspectCuda()).problems;
  return problem === undefined
    ? { device: parseDevice("cuda", threads), reason: "a GPU is there" }
    : { device: parseDevice("cpu", threads), reason: problem.text };
}

/** What opening CUDA takes of a card, which has happened when `run` asks what is free: a usual value, not measured here. */
const CUDA_CONTEXT_BYTES = 0.6e9;

// What is said, or what `run` would find free.
async function memoryFor(
  { provider, index }: Device,
  said: number | undefined,
): Promise<Pick<PlanRequest, "machine" | "vram" | "isVramSaid">> {
  const { memory: ram } = await inspectMachine();
  const isVramSaid = said !== undefined;
  if (provider === "cpu") return { machine: { ram, gpu: undefined }, vram: said, isVramSaid };
  if (isVramSaid) return { machine: { ram, gpu: { total: said, available: said } }, vram: said, isVramSaid };
  const { memory: total, freeMemory } = (await findGpus()).gpus.find((gpu) => gpu.index === index) ?? {};
  const vram = freeMemory === undefined ? undefined : Math.max(freeMemory - CUDA_CONTEXT_BYTES, 0);
  return {
    machine: { ram, gpu: total === undefined ? undefined : { total, available: vram ?? total } },
    vram,
    isVramSaid,
  };
}
