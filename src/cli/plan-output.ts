// Makes a plan from settings as they were resolved, and prints it: what `plan` and `run --dry-run` have in common.
import { inspectMachine } from "../catalog/runtime/machine.js";
import { inspectCuda } from "../engine/cuda.js";
import { findGpus } from "../engine/gpus.js";
import { parseDevice, type Device } from "../engine/providers.js";
import { EXIT, QeditError } from "../errors.js";
import type { Source } from "../image/plan.js";
import { readSize } from "../image/read.js";
import type { MachineMemory } from "../pipeline/plan/edit-plan.js";
import type { FileSettings } from "../pipeline/plan/model-files.js";
import { planEdit } from "../pipeline/plan/plan.js";
import { loadTokenizer } from "../text/tokenizer.js";
import type { ComputeSettings } from "./compute.js";
import { inputSources, inputText } from "./input.js";
import { planLines } from "./plan-text.js";
import type { Terminal } from "./terminal.js";

/** What to plan. */
export interface PlanCall {
  readonly args: readonly string[];
  readonly settings: FileSettings & ComputeSettings;
  /** How many pictures are made of these. */
  readonly results: number;
  /** Bytes of GPU memory to plan for, when it was said. */
  readonly vram: number | undefined;
  /** Claims that `run` was called: then a missing file is a failure. */
  readonly isDryRun: boolean;
}

/** Prints the plan of an edit; gives EXIT.model for a dry run that would find a file missing. Throws what `run` would. */
export async function showPlan({ args, settings, results, vram, isDryRun }: PlanCall, terminal: Terminal): Promise<number> {
  const { device, reason } = await chosenDevice(settings, vram);
  const sources = await Promise.all((await inputSources(args)).map(sourceOf));
  const complete = { ...settings, prompt: await inputText(settings.prompt) };
  const machine = await machineMemory(device, vram);
  const plan = await planEdit(complete, { sources, device, deviceReason: reason, tokenizer: await loadTokenizer(), results, machine });
  terminal.result(plan, planLines(plan, terminal.style));
  return isDryRun && plan.totals.missingFiles > 0 ? EXIT.model : EXIT.ok;
}

async function sourceOf(source: string | { readonly name: string; readonly bytes: Uint8Array }): Promise<Source> {
  const name = typeof source === "string" ? source : source.name;
  return { name, ...(await readSize(typeof source === "string" ? source : source.bytes, name)) };
}

// As `run` would choose, but without opening a session.
async function chosenDevice({ device: wanted = "auto", threads = 0 }: ComputeSettings, vram: number | undefined): Promise<{ device: Device; reason: string | undefined }> {
  if (wanted !== "auto") {
    const device = parseDevice(wanted, threads);
    if (vram === undefined || device.provider !== "cpu") return { device, reason: undefined };
    throw new QeditError("QEDIT_E_USAGE", "Cannot use --vram with --device cpu: it has no effect", { hint: "Leave one of them out" });
  }
  if (vram !== undefined) return { device: parseDevice("cuda", threads), reason: "--vram says so" };
  const [problem] = (await inspectCuda()).problems;
  return problem === undefined ? { device: parseDevice("cuda", threads), reason: "a GPU is there" } : { device: parseDevice("cpu", threads), reason: problem.text };
}

async function machineMemory({ provider, index }: Device, vram: number | undefined): Promise<MachineMemory> {
  const { memory } = await inspectMachine();
  if (provider === "cpu") return { ram: memory, gpu: undefined };
  if (vram !== undefined) return { ram: memory, gpu: { total: vram, available: vram } };
  const gpu = (await findGpus()).gpus.find((each) => each.index === index);
  return { ram: memory, gpu: gpu?.memory === undefined ? undefined : { total: gpu.memory, available: gpu.freeMemory ?? gpu.memory } };
}
