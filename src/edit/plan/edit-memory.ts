// The memory plans of an edit's networks: the plans that its stages will follow, made by the same functions from the lengths of the edit, before
// anything is computed.

import type { FileRole } from "../../catalog/published/models.js";
import type { Adapter } from "../../checkpoint/weights.js";
import { computeType } from "../../engine/providers.js";
import type { Size } from "../../image/image.js";
import { NETWORK_IDS, type NetworkId } from "../../models/network-id.js";
import { languageConfig, visionConfig } from "../../models/text-encoders.js";
import { transformerOf } from "../../models/transformers.js";
import { fitsBeside, type NetworkPlan } from "../../stages/networks/memory-plan.js";
import type { ModelHandle } from "../../stages/networks/model-handle.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { modulationBytes } from "../../stages/networks/modulation-table.js";
import { languageNeeds } from "../../stages/networks/open-language-model.js";
import { vaePlanning } from "../../stages/networks/open-vae.js";
import { visionNeeds } from "../../stages/networks/open-vision-tower.js";
import type { TilePlan } from "../../stages/networks/tiles.js";
import { sampledTokens, transformerPlanning } from "../../stages/networks/transformer-plan.js";
import {
  budgetOf,
  deviceBytes,
  groupPlanning,
  type MemoryLimit,
  type Planning,
} from "../../stages/networks/within-memory.js";
import type { StageName } from "../../stages/stage.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { PromptTokens } from "./prompt-tokens.js";

/** The memory of one network, in bytes of the device. */
export interface NetworkMemory {
  readonly stage: StageName;
  /** The stage during which it opens: its own, or the one before if it fits beside the networks that compute then. */
  readonly opensDuring: StageName;
  readonly network: NetworkId;
  readonly weights: number;
  /** Peak of a run without weights. */
  readonly activations: number;
  /** Peak of the network. */
  readonly peak: number;
  readonly fits: boolean;
  /** Numbers of layers: all, those that stay open, and those that are streamed: opened again at every pass. */
  readonly layers: { readonly total: number; readonly resident: number; readonly streamed: number };
  /** Numbers of sessions that stay open, and that are opened again at every pass. */
  readonly groups: {
    readonly resident: number;
    readonly streamed: number;
    /** Whether the next streamed session opens while one computes. */
    readonly opensAhead: boolean;
  };
  /** Pixels along a side of the VAE's tiles; undefined: no tiles. */
  readonly tile: number | undefined;
  /** The line that the stage emits. */
  readonly text: string;
}

/** The memory of an edit's networks. */
export interface EditMemory {
  /** Bytes of the device that networks may take: given by the user, or free; undefined is no limit. */
  readonly limit: number | undefined;
  /** Peak bytes of the device by this plan, with networks that open ahead. */
  readonly needed: number;
  readonly fits: boolean;
  readonly networks: readonly NetworkMemory[];
}

/** The networks of an edit, and the memory for them. */
export interface MemoryRequest {
  readonly parts: Readonly<Record<FileRole, ModelHandle>>;
  readonly adapters: readonly Adapter[];
  readonly types: Pick<ResolvedSettings, "dtype" | "textDtype" | "vaeDtype" | "tile" | "referenceMethod" | "stepCache">;
  readonly limit: MemoryLimit;
  /** Stages that run elsewhere. */
  readonly elsewhere?: ReadonlySet<StageName>;
}

/** The lengths of an edit that its memory depends on; see EditLengths. */
export interface MemoryLengths {
  readonly sizes: {
    readonly target: { readonly size: Size };
    readonly images: readonly {
      readonly reference: { readonly size: Size };
      readonly vision: { readonly tokens: number };
    }[];
  };
  readonly tokens: {
    readonly prompt: Pick<PromptTokens, "total" | "seen">;
    readonly negativePrompt: Pick<PromptTokens, "total" | "seen"> | undefined;
    readonly target: number;
    readonly references: readonly number[];
  };
}

/** Plans the memory of every network at the lengths of an edit. */
export function editMemory(lengths: MemoryLengths, request: MemoryRequest): EditMemory {
  const { limit, elsewhere = new Set() } = request;
  const budget = budgetOf(limit);
  const planned = [...vaes(lengths, request), ...textNetworks(lengths, request), transformer(lengths, request)]
    .filter(({ stage }) => !elsewhere.has(stage))
    .map((each) => ({ ...each, plan: each.planning.planFor(budget) }))
    .sort((a, b) => NETWORK_IDS.indexOf(a.plan.network) - NETWORK_IDS.indexOf(b.plan.network));
  const networks = planned.map((each) => {
    // Nothing opens ahead where stages wait for other machines.
    const opensDuring = elsewhere.size > 0 ? each.stage : stageOfOpening(each, planned, limit);
    return networkMemory(each, opensDuring);
  });
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

interface Planned {
  readonly stage: StageName;
  readonly planning: Planning;
  /** Bytes of other weights that may be in memory before its first run. */
  readonly before?: number;
  /** Pixels along a side of one feature of the VAE's tiles. */
  readonly ratio?: number;
}

function vaes({ sizes }: MemoryLengths, { parts, types, limit: { device } }: MemoryRequest): Planned[] {
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
  { sizes, tokens }: MemoryLengths,
  { parts: { textEncoder: file }, types, limit: { device } }: MemoryRequest,
): Planned[] {
  const compute = computeType(device, "text-encoder", types.textDtype);
  const numbers = numbersOf(file.checkpoint);
  const seen = sizes.images.map(({ vision }) => vision.tokens);
  const read = Math.max(tokens.prompt.total, tokens.negativePrompt?.total ?? 0);
  const vision = () => {
    const config = visionConfig(numbers, file.config);
    return visionNeeds({ file, config, compute, tokens: Math.max(...seen) }, device);
  };
  const language = languageNeeds({ file, config: languageConfig(numbers, file.config), compute, tokens: read }, device);
  // Without pictures the tower does not open.
  return [...(seen.length > 0 ? [vision()] : []), language].map((needs) => ({
    stage: "encode-prompt",
    planning: groupPlanning(needs),
  }));
}

function transformer(
  { tokens }: MemoryLengths,
  { parts: { transformer: file }, adapters, types, limit: { device } }: MemoryRequest,
): Planned {
  const network = transformerOf(numbersOf(file.checkpoint), file.config, types);
  const planning = transformerPlanning(
    {
      file,
      network,
      compute: computeType(device, "transformer", types.dtype),
      loras: adapters.map((adapter) => ({ adapter })),
      stepCache: types.stepCache,
      ...sampledTokens(tokens),
    },
    device,
  );
  return { stage: "sample", planning: planning as Planning, before: modulationBytes({ file, network }) };
}

/** The stages whose network may open during the stage before. */
const MAY_OPEN_DURING: Partial<Readonly<Record<StageName, StageName>>> = { sample: "encode-prompt", decode: "sample" };

type WithPlan = Planned & { readonly plan: NetworkPlan & Partial<TilePlan> };

// Nothing opens ahead without a known limit, for a tiled VAE (two sessions), or on the CPU (opening maps a file and takes cores from computing).
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
