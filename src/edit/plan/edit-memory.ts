// What of each network is in memory at a time during an edit: the plans that the stages will follow, made by the same functions from the
// lengths of the edit, before any of it is computed.
import type { FileRole } from "../../catalog/published/models.js";
import type { Adapter } from "../../checkpoint/weights.js";
import { computeType } from "../../engine/providers.js";
import { transformerConfig } from "../../models/qwen-image/transformer-config.js";
import { languageConfig, visionConfig } from "../../models/qwen2.5-vl/text-encoder-config.js";
import { fitsBeside, type NetworkPlan } from "../../stages/networks/memory-plan.js";
import type { ModelHandle } from "../../stages/networks/model-handle.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { modulationBytes } from "../../stages/networks/modulation-table.js";
import { languageNeeds } from "../../stages/networks/open-language-model.js";
import { transformerNeeds } from "../../stages/networks/open-transformer.js";
import { vaePlanning } from "../../stages/networks/open-vae.js";
import { visionNeeds } from "../../stages/networks/open-vision-tower.js";
import type { TilePlan } from "../../stages/networks/tiles.js";
import {
  budgetOf,
  deviceBytes,
  groupPlanning,
  type MemoryLimit,
  type Planning,
} from "../../stages/networks/within-memory.js";
import type { StageName } from "../../stages/stage.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { EditLengths } from "./edit-lengths.js";

/** What is done with one network, in bytes of the device. */
export interface NetworkMemory {
  readonly stage: StageName;
  /** The stage while which it opens: its own, or the one before, where it fits beside what computes then. */
  readonly opensDuring: StageName;
  /** As people call it: `transformer`. */
  readonly network: string;
  readonly weights: number;
  /** What a run takes beside weights. */
  readonly activations: number;
  /** Most at a time. */
  readonly peak: number;
  readonly fits: boolean;
  /** Its layers: how many there are, how many stay open, and how many are opened again at every pass. */
  readonly layers: { readonly total: number; readonly resident: number; readonly streamed: number };
  /** Sessions: those that stay open, and those that are opened again at every pass. */
  readonly groups: {
    readonly resident: number;
    readonly streamed: number /** Claims that the next one opens while one computes. */;
    readonly opensAhead: boolean;
  };
  /** Pixels along a side of the VAE's tiles; undefined is the whole picture. */
  readonly tile: number | undefined;
  /** As the stage tells it. */
  readonly text: string;
}

/** The memory of an edit's networks. */
export interface EditMemory {
  /** Bytes of the device that were said, or are free; undefined is no limit. */
  readonly limit: number | undefined;
  /** Bytes of the device that the networks of this plan take at most, with what opens ahead. */
  readonly needed: number;
  readonly fits: boolean;
  readonly networks: readonly NetworkMemory[];
}

/** The networks of an edit, and what there is for them. */
export interface MemoryQuestion {
  readonly parts: Readonly<Record<FileRole, ModelHandle>>;
  readonly adapters: readonly Adapter[];
  readonly types: Pick<ResolvedSettings, "dtype" | "textDtype" | "vaeDtype" | "tile">;
  readonly limit: MemoryLimit;
}

/** Plans the memory of every network at the lengths of an edit. */
export function editMemory(lengths: EditLengths, question: MemoryQuestion): EditMemory {
  const { limit } = question;
  const budget = budgetOf(limit);
  const planned = [...vaes(lengths, question), ...textNetworks(lengths, question), transformer(lengths, question)]
    .map((each) => ({ ...each, plan: each.planning.planFor(budget) }))
    .sort((a, b) => ORDER.indexOf(a.plan.network) - ORDER.indexOf(b.plan.network));
  const networks = planned.map((each) => networkMemory(each, stageOfOpening(each, planned, limit)));
  const most = Math.max(...networks.map(({ stage, peak }) => peak + bytesAhead(networks, stage)));
  return {
    limit: limit.vram,
    needed: deviceBytes(most, limit.device),
    fits: networks.every(({ fits }) => fits),
    networks,
  };
}

/** Bytes of weights that open during a stage for a later one. */
export function bytesAhead(networks: readonly NetworkMemory[], stage: StageName): number {
  return networks.reduce(
    (sum, { opensDuring, stage: own, weights }) => sum + (opensDuring === stage && own !== stage ? weights : 0),
    0,
  );
}

/** As they are opened. */
const ORDER: readonly string[] = ["VAE encoder", "vision tower", "language model", "transformer", "VAE decoder"];

interface Planned {
  readonly stage: StageName;
  readonly planning: Planning;
  /** Bytes of weights that may be open beside its own before its first run. */
  readonly before?: number;
  /** Pixels along a side of what the VAE's tiles are measured in. */
  readonly ratio?: number;
}

function vaes({ sizes }: EditLengths, { parts, types, limit: { device } }: MemoryQuestion): Planned[] {
  const run = { file: parts.vae, compute: computeType(device, "vae", types.vaeDtype), tile: types.tile };
  const encoded = [sizes.target, ...sizes.images.map(({ reference }) => reference)].map(({ size }) => size);
  const most = (side: "height" | "width") => Math.max(...encoded.map((each) => each[side]));
  const encoder = vaePlanning("encoder", { run, pixels: [most("height"), most("width")] }, device);
  const decoder = vaePlanning(
    "decoder to bytes",
    { run, pixels: [sizes.target.size.height, sizes.target.size.width] },
    device,
  );
  return [
    { stage: "encode-image", planning: encoder as Planning, ratio: encoder.reach.ratio },
    { stage: "decode", planning: decoder as Planning, ratio: decoder.reach.ratio },
  ];
}

function textNetworks(
  { sizes, tokens }: EditLengths,
  { parts: { textEncoder: file }, types, limit: { device } }: MemoryQuestion,
): Planned[] {
  const compute = computeType(device, "text-encoder", types.textDtype);
  const numbers = numbersOf(file.checkpoint);
  const seen = Math.max(...sizes.images.map(({ vision }) => vision.tokens));
  const read = Math.max(tokens.prompt.total, tokens.negativePrompt?.total ?? 0);
  const vision = visionNeeds({ file, config: visionConfig(numbers, file.config), compute, tokens: seen }, device);
  const language = languageNeeds({ file, config: languageConfig(numbers, file.config), compute, tokens: read }, device);
  return [vision, language].map((needs) => ({ stage: "encode-prompt", planning: groupPlanning(needs) }));
}

function transformer(
  { tokens }: EditLengths,
  { parts: { transformer: file }, adapters, types, limit: { device } }: MemoryQuestion,
): Planned {
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const text = Math.max(tokens.prompt.seen, tokens.negativePrompt?.seen ?? 0);
  const lengths = { text, target: tokens.target, reference: tokens.references.reduce((sum, each) => sum + each, 0) };
  const needs = transformerNeeds(
    {
      file,
      config,
      compute: computeType(device, "transformer", types.dtype),
      loras: adapters.map((adapter) => ({ adapter })),
      lengths,
    },
    device,
  );
  return { stage: "sample", planning: groupPlanning(needs), before: modulationBytes({ file, config }) };
}

/** The stages whose network may open while the one before computes. */
const MAY_OPEN_DURING: Partial<Readonly<Record<StageName, StageName>>> = { sample: "encode-prompt", decode: "sample" };

type WithPlan = Planned & { readonly plan: NetworkPlan & Partial<TilePlan> };

// Without a limit nobody knows what fits; on tiles there are two sessions. On the CPU opening maps a file, and takes cores from what computes.
function stageOfOpening(
  { stage, plan, before = 0 }: WithPlan,
  all: readonly WithPlan[],
  { device, vram }: MemoryLimit,
): StageName {
  const earlier = device.provider === "cpu" ? undefined : MAY_OPEN_DURING[stage];
  const budget = budgetOf({ device, vram });
  if (earlier === undefined || budget === undefined || plan.tile !== undefined) return stage;
  const computing = all.filter((each) => each.stage === earlier);
  return fitsBeside(
    plan,
    computing.map((each) => each.plan),
    { budget, before },
  )
    ? earlier
    : stage;
}

function networkMemory({ stage, planning, plan, ratio = 1 }: WithPlan, opensDuring: StageName): NetworkMemory {
  const { network, weights, activations, groups, opensAhead, peak, isOverBudget } = plan;
  const resident = groups.filter(({ isResident }) => isResident);
  const streamed = groups.filter(({ isResident }) => !isResident);
  const layersOf = (some: typeof groups) => some.reduce((sum, { from, to }) => sum + to - from, 0);
  return {
    stage,
    opensDuring,
    network,
    weights,
    activations,
    peak,
    fits: !isOverBudget,
    layers: { total: groups.at(-1)!.to, resident: layersOf(resident), streamed: layersOf(streamed) },
    groups: { resident: resident.length, streamed: streamed.length, opensAhead },
    tile: plan.tile === undefined ? undefined : plan.tile * ratio,
    text: planning.describe(plan),
  };
}
