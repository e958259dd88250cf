// Implements `qedit plan` and `qedit run --dry-run`: plans an edit and prints the plan.
import { EXIT } from "../../edit/error-table.js";
import type { EditPlan } from "../../edit/plan/edit-plan.js";
import { planEdit } from "../../edit/plan/plan-edit.js";
import { planMachine } from "../../edit/plan/plan-machine.js";
import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { refuseFilesElsewhere } from "../../edit/resolve/files-elsewhere.js";
import type { UnresolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { refuseNoPicture } from "../../edit/resolve/without-picture.js";
import { inspectCuda } from "../../engine/cuda/inspect-cuda.js";
import { type Device, parseDevice, parseDevices } from "../../engine/providers.js";
import { readSize } from "../../image/io/read.js";
import type { Source } from "../../image/resize/size-plan.js";
import { QeditError } from "../../std/errors.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import { type MakingSettings, makingOptions } from "../commands/run.js";
import { checkInputs, inputPictures, inputPrompt, inputSources } from "../files/input.js";
import { pictureEncoding, refuseUselessQuality } from "../files/picture-output.js";
import { readTimings } from "../files/timings-file.js";
import { STREAM } from "../io.js";
import { planLines } from "../render/plan-lines.js";
import type { Terminal } from "../render/terminal.js";
import type { CapacitySettings } from "../settings/capacity-options.js";
import { type RemoteSettings, refuseUselessRemote } from "../settings/remote-options.js";
import { completeSettings, type GivenSetting } from "../settings/settings.js";
import type { ComputeSettings } from "../with-service.js";
import { refuseContradictions, resultPaths, wantedSeeds } from "./make-pictures.js";
import { keptFolders, openOutputs, type RunFiles } from "./run-outputs.js";
import { refuseUselessCapacity, showCapacity } from "./show-capacity.js";

/** What to plan. */
export interface PlanCall {
  readonly args: readonly string[];
  readonly settings: UnresolvedSettings &
    ComputeSettings &
    Pick<MakingSettings, "sheet" | "force"> &
    RemoteSettings & { readonly preview?: string | undefined };
  readonly files: RunFiles;
  /** Whether to plan for a GPU of --vram bytes, which need not be in this machine. */
  readonly isForCard: boolean;
  /** Whether `run --dry-run` was called: then a missing file is a failure. */
  readonly isDryRun: boolean;
}

/** A call of `plan`. */
interface PlanCommand {
  readonly args: readonly string[];
  readonly settings: MakingSettings & RemoteSettings & CapacitySettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Runs `qedit plan`. Throws what `run` would throw. */
export async function planPictures(call: PlanCommand, terminal: Terminal): Promise<number> {
  const { args, settings, given } = call;
  refuseUselessCapacity(call);
  if (args.length === 0 && !given.has("prompt")) {
    await showCapacity(call, undefined, terminal);
    return EXIT.ok;
  }
  // Refuses a call without a prompt, which only a plan of machines may lack.
  completeSettings(makingOptions, given);
  refuseContradictions(call);
  refuseUselessRemote(settings, given);
  await refuseNoPicture(args.length, settings);
  refuseFilesElsewhere(settings, { given, elsewhere: stagesElsewhere(settings.remote), emit: terminal.emit });
  checkInputs([...args, settings.prompt, settings.mask], terminal.io);
  const seeds = wantedSeeds(settings, () => {});
  const files = {
    inputs: [...args, settings.mask],
    paths: resultPaths(args, settings, seeds),
    kept: keptFolders(settings.keep, seeds),
  };
  refuseUselessQuality(pictureEncoding(files.paths[0]!, settings).format, given);
  const resolved = await resolveSettings({ settings, given, force: settings.force, emit: terminal.emit });
  const isForCard = given.get("vram")?.layer === "flag";
  const wanted = { args, settings: resolved, files, isForCard, isDryRun: false };
  if (!settings.replicas) return showPlan(wanted, terminal);
  await showCapacity(call, await planOf(wanted, terminal), terminal);
  return EXIT.ok;
}

/** Prints the plan of an edit; returns EXIT.model for a dry run with missing files. Throws what `run` would throw. */
export async function showPlan(call: PlanCall, terminal: Terminal): Promise<number> {
  const { settings, files, isDryRun } = call;
  const plan = await planOf(call, terminal);
  await warnOfOutputs(files, settings, terminal);
  terminal.result(plan, planLines(plan, terminal.style));
  return isDryRun && plan.totals.missingFiles > 0 ? EXIT.model : EXIT.ok;
}

async function planOf({ args, settings, files, isForCard }: PlanCall, terminal: Terminal): Promise<EditPlan> {
  const { device, reason } = await chosenDevice(settings, isForCard);
  const sources = await Promise.all((await inputSources(args, terminal.io)).map(sourceOf));
  const complete = { ...settings, prompt: await inputPrompt(settings, terminal.io) };
  const memory = await planMachine(device, settings.vram);
  const mask = settings.mask === undefined ? undefined : (await inputPictures([settings.mask], terminal.io))[0];
  return planEdit(complete, {
    sources,
    mask,
    timings: await readTimings(),
    device,
    deviceReason: reason,
    tokenizer: await loadTokenizer(),
    results: files.paths.length,
    remote: settings.remote,
    ...memory,
  });
}

// A plan writes nothing: files that `run` would not write are no reason to plan nothing.
async function warnOfOutputs(files: RunFiles, settings: PlanCall["settings"], terminal: Terminal): Promise<void> {
  const paths = files.paths.filter((each) => each !== STREAM);
  await openOutputs({ ...files, paths }, settings, terminal, (checking) =>
    checking.catch((error: unknown) => {
      if (!(error instanceof QeditError) || error.code === "QEDIT_E_USAGE") throw error;
      terminal.emit({ kind: "warning", text: `\`run\` will refuse this: ${error.marked.message}` });
      return undefined;
    }),
  );
}

async function sourceOf(source: string | { readonly name: string; readonly bytes: Uint8Array }): Promise<Source> {
  const name = typeof source === "string" ? source : source.name;
  return { name, ...(await readSize(typeof source === "string" ? source : source.bytes, name)) };
}

// Chooses the same device as `run`, but opens no session.
async function chosenDevice(
  { device: wanted = "auto", threads = 0 }: ComputeSettings,
  isForCard: boolean,
): Promise<{ device: Device; reason: string | undefined }> {
  const devices = parseDevices(wanted, threads);
  // With several devices each one opens all networks: plan for the first.
  if (devices !== "auto") return { device: devices[0]!, reason: undefined };
  if (isForCard) return { device: parseDevice("cuda", threads), reason: "--vram says so" };
  const [problem] = (await inspectCuda()).problems;
  return problem === undefined
    ? { device: parseDevice("cuda", threads), reason: "a GPU is there" }
    : { device: parseDevice("cpu", threads), reason: problem.text };
}
