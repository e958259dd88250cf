// Plans an edit: finds its files, builds its graphs, does the checks of `run`, and adds up costs. Computes nothing, reads no weights.

import type { FileRole } from "../../catalog/published/models.js";
import type { Device } from "../../engine/providers.js";
import type { Source } from "../../image/resize/size-plan.js";
import { decode } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { refuseForeignFiles } from "../../stages/networks/agreeing-files.js";
import { type ModelRole, numbersOf } from "../../stages/networks/model-handle.js";
import type { MemoryLimit } from "../../stages/networks/within-memory.js";
import type { Picture } from "../../stages/pictures.js";
import { evaluationsOf, sample } from "../../stages/sample.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { withRegion } from "../finish/crop-mask.js";
import { checkFinish } from "../finish/finish.js";
import { type RemoteServers, serversText, stagesElsewhere, WHOLE } from "../remote/remote-servers.js";
import { isNeededHere } from "../resolve/model-library.js";
import { type ResolvedSettings, type UnresolvedSettings, withNumbers } from "../resolve/resolve-edit.js";
import { checkEdit } from "../service/open-edit.js";
import { type EditLengths, editLengths } from "./edit-lengths.js";
import { type EditMemory, editMemory } from "./edit-memory.js";
import { type EditPlan, type PlanRequest, plannedDevice } from "./edit-plan.js";
import { editRuns } from "./edit-runs.js";
import { type FitAdvice, fitAdvice, memoryNeed, unlimitedNeed } from "./fit.js";
import { type PlannedFiles, plannedFiles } from "./model-files.js";
import { type PlannedNetworks, plannedNetworks } from "./networks.js";
import { latentSizes, pictureSizes } from "./picture-sizes.js";
import { stagePlans } from "./stage-plan.js";

/** Plans an edit. Throws what `run` throws before it computes, except for missing model files: the plan lists those. */
export async function planEdit(unresolved: UnresolvedSettings, request: PlanRequest): Promise<EditPlan> {
  const { sources, device, machine, tokenizer, results, vram, timings, remote = {} } = request;
  const mask = request.mask?.image;
  const elsewhere = stagesElsewhere(remote);
  const settings = withRegion(withNumbers(unresolved), { size: sources[0], mask });
  const found = await plannedFiles(unresolved, elsewhere);
  await check(settings, request, found);
  const limit = { device, vram };
  const networks = plannedNetworks(found, {
    ...settings,
    ...limit,
    references: sources.length,
    evaluations: evaluationsOf(settings),
  });
  const runs = await editRuns(sources, { settings, networks, tokenizer, results, mask, elsewhere });
  const memoryOf = (lengths: EditLengths, within = limit) =>
    editMemory(lengths, { ...found, types: settings, limit: within, elsewhere });
  // On the CPU without a limit weights are memory-mapped and need no plan.
  const isUnplanned = (device.provider === "cpu" && vram === undefined) || elsewhere.size === STAGES.length;
  const plan = isUnplanned ? undefined : memoryOf(runs);
  const stages = stagePlans(runs, { device, timings, plans: plan?.networks });
  const { sizes, tokens, sampling, steps, evaluations } = runs;
  const missing = found.files.filter(({ path }) => path === undefined);
  return {
    results,
    device: plannedDevice(request),
    sizes: {
      mode: sizes.mode,
      pictures: pictureSizes(sizes, settings),
      target: latentSizes(sizes, settings),
      output: settings.keepSize && sizes.images[0] ? sizes.images[0].source : sizes.target.size,
    },
    tokens,
    sampling: {
      ...{ steps, cfg: sampling.cfg, sampler: sampling.sampler, scheduler: sampling.scheduler, evaluations },
      ...(settings.stepCache !== undefined && { stepCache: settings.stepCache }),
    },
    stages,
    ...(elsewhere.size > 0 && { elsewhere: placesOf(remote, elsewhere) }),
    ...(remote[WHOLE] && { isOneRequest: true as const }),
    files: found.files,
    totals: {
      ...totalsOf(stages),
      tensorBytes: tensorBytes(runs, { found, networks }),
      missingFiles: missing.length,
      missingBytes: sum(missing.map(({ bytes }) => bytes ?? 0)),
    },
    memory: {
      ram: memoryNeed("ram", stages, machine.ram),
      gpu: device.provider === "cpu" ? undefined : memoryNeed("gpu", stages, machine.gpu),
      plan,
    },
    advice: await advice(settings, request, { found, networks, memoryOf: plan && memoryOf }),
  };
}

interface Planned {
  readonly found: PlannedFiles;
  readonly networks: PlannedNetworks;
  /** undefined if memory is not planned. */
  readonly memoryOf: ((lengths: EditLengths, within?: MemoryLimit) => EditMemory) | undefined;
}

// Compares with --vram or the GPU's free memory; on the CPU without --vram with the machine's memory.
async function advice(
  settings: ResolvedSettings,
  { sources, mask, device, machine, tokenizer, results, vram, isVramGiven, remote = {} }: PlanRequest,
  { found, networks, memoryOf }: Planned,
): Promise<readonly FitAdvice[]> {
  const elsewhere = stagesElsewhere(remote);
  const lengthsOf = (pictures: readonly Source[], changed: ResolvedSettings) =>
    editLengths(pictures, { settings: changed, networks, tokenizer });
  const onCpu = async () => {
    const cpu: Device = { ...device, provider: "cpu", index: 0 };
    const wanted = plannedNetworks(found, {
      device: cpu,
      vram: undefined,
      dtype: "auto",
      textDtype: "auto",
      vaeDtype: "auto",
      referenceMethod: settings.referenceMethod,
      stepCache: settings.stepCache,
      references: sources.length,
      evaluations: evaluationsOf(settings),
    });
    return {
      needed: unlimitedNeed(
        await editRuns(sources, { settings, networks: wanted, tokenizer, results, mask: mask?.image, elsewhere }),
        cpu,
      ),
      available: machine.ram.available,
    };
  };
  if (memoryOf === undefined) {
    const needs = async (pictures: readonly Source[], changed: ResolvedSettings) =>
      unlimitedNeed(
        await editRuns(pictures, { settings: changed, networks, tokenizer, results, mask: mask?.image, elsewhere }),
        device,
      );
    return fitAdvice({
      sources,
      settings,
      room: { bytes: machine.ram.available, of: "ram" },
      needs,
      least: async () => undefined,
      onCpu: undefined,
    });
  }
  if (vram === undefined) return [];
  return fitAdvice({
    sources,
    settings,
    room: { bytes: vram, of: isVramGiven ? "vram" : "gpu" },
    needs: async (pictures, changed) => memoryOf(lengthsOf(pictures, changed)).needed,
    least: async () => memoryOf(lengthsOf(sources, settings), { device, vram: 0 }).needed,
    onCpu: device.provider === "cpu" ? undefined : onCpu,
  });
}

/** Bytes of a number in a tensor file. */
const FLOAT32 = 4;

// The latents of references, noise and result, and what the transformer reads of each prompt.
function tensorBytes({ sizes, tokens }: EditLengths, { found, networks }: Omit<Planned, "memoryOf">): number {
  const latents = [...sizes.images.map(({ reference }) => reference), sizes.target, sizes.target];
  const cells = sum(latents.map(({ latent: { width, height } }) => width * height));
  const [, width] = numbersOf(found.parts.textEncoder.checkpoint).shape("model.embed_tokens.weight") as [
    number,
    number,
  ];
  const embedded = tokens.prompt.seen + (tokens.negativePrompt?.seen ?? 0);
  return FLOAT32 * (networks.vae.latentChannels * cells + width * embedded);
}

function totalsOf(stages: EditPlan["stages"]): Pick<EditPlan["totals"], "flops" | "readBytes" | "seconds"> {
  const seconds = stages.map((stage) => stage.seconds);
  return {
    flops: sum(stages.map(({ flops }) => flops)),
    readBytes: sum(stages.map(({ readBytes }) => readBytes)),
    seconds: seconds.includes(undefined) ? undefined : sum(seconds as number[]),
  };
}

// The checks of the stages. If files are missing, only those of stages that have theirs.
async function check(
  settings: ResolvedSettings,
  { sources, mask, device, remote = {} }: PlanRequest,
  { files, parts, loras }: PlannedFiles,
): Promise<void> {
  const pictures = sources.map(withoutPixels);
  const missing = new Set(files.flatMap(({ role, path }) => (path === undefined ? [role] : [])));
  const models = { ...parts, loras };
  const elsewhere = stagesElsewhere(remote);
  // The published layouts stand for files that are missing, or elsewhere.
  const known = (role: ModelRole) =>
    missing.has(role) || !isNeededHere(role, { elsewhere }) ? undefined : parts[role];
  refuseForeignFiles({ vae: known("vae"), textEncoder: known("textEncoder"), transformer: known("transformer") });
  if (missing.size === 0) return checkEdit({ pictures, mask }, { settings, models }, device, elsewhere);
  checkFinish({ pictures, mask }, settings);
  const config = { models, settings };
  const isChecked = (stage: StageName, role: FileRole) => !elsewhere.has(stage) && !missing.has(role);
  if (isChecked("encode-image", "vae")) await encodeImage.check(pictures, config, device);
  if (isChecked("encode-prompt", "textEncoder")) await encodePrompt.check(pictures, config, device);
  if (isChecked("sample", "transformer")) await sample.check(pictures, config, device);
  if (isChecked("decode", "vae")) await decode.check(pictures, config, device);
}

function placesOf(remote: RemoteServers, elsewhere: ReadonlySet<StageName>): NonNullable<EditPlan["elsewhere"]> {
  return Object.fromEntries([...elsewhere].map((stage) => [stage, serversText(remote, stage)]));
}

// Checks need only names and sizes.
function withoutPixels({ name, width, height }: Source): Picture {
  return { name, image: { width, height, data: new Uint8Array(0) }, hash: "" };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
