// The plan of an edit: everything that can be said of it before it is computed. Plain data, the same for people and for --json.
import { type Device, deviceName } from "../../engine/providers.js";
import type { Box, Size } from "../../image/image.js";
import type { PlanMode, Source } from "../../image/resize/size-plan.js";
import type { Picture } from "../../stages/pictures.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { SequenceTokens } from "./edit-lengths.js";
import type { EditMemory } from "./edit-memory.js";
import type { FitAdvice, MemoryNeed } from "./fit.js";
import type { PlannedFile } from "./model-files.js";
import type { StagePlan } from "./stage-plan.js";
import type { SessionTiming } from "./timings.js";

/** A picture on its way into the transformer, or the result on its way out. */
export interface LatentSizes {
  /** Pixels that the VAE encodes or decodes. */
  readonly size: Size;
  /** The part of the source that remains, pixels. */
  readonly box: Box;
  /** Cells of the latent. */
  readonly latent: Size;
  readonly tokens: number;
  /** Why it is that size. */
  readonly why: string;
}

/** A picture through all stages. */
export interface PictureSizes {
  readonly name: string;
  readonly source: Size;
  readonly reference: LatentSizes;
  /** What the vision tower sees: pixels, patches, and the tokens that enter the language model. */
  readonly vision: { readonly size: Size; readonly grid: Size; readonly tokens: number; readonly why: string };
}

/** Where an edit would be computed. */
export interface PlannedDevice {
  readonly name: string;
  /** Threads on the CPU; undefined is all cores. */
  readonly threads: number | undefined;
  /** Why it is this one, when nobody chose it. */
  readonly reason: string | undefined;
}

/** Everything about an edit that is not computed yet: `qedit plan --json`. Bytes, seconds and floating-point operations are whole edits' unless said. */
export interface EditPlan {
  /** How many pictures are made, each from a seed of its own. */
  readonly results: number;
  readonly device: PlannedDevice;
  readonly sizes: {
    readonly mode: PlanMode;
    readonly pictures: readonly PictureSizes[];
    readonly target: LatentSizes /** Pixels of the picture that is written. */;
    readonly output: Size;
  };
  readonly tokens: SequenceTokens;
  readonly sampling: {
    readonly steps: number;
    readonly cfg: number;
    readonly sampler: string;
    readonly scheduler: string /** Runs of the transformer for one picture, with the prompt and with the negative one. */;
    readonly evaluations: { readonly positive: number; readonly negative: number };
  };
  readonly stages: readonly StagePlan[];
  readonly files: readonly PlannedFile[];
  readonly totals: {
    readonly flops: number;
    /** Bytes of weights that are read from disk, when memory keeps what was read. */
    readonly readBytes: number;
    /** undefined while a network never ran here. */
    readonly seconds: number | undefined;
    readonly missingFiles: number;
    readonly missingBytes: number;
  };
  readonly memory: {
    readonly ram: MemoryNeed;
    /** undefined on the CPU. */
    readonly gpu: MemoryNeed | undefined;
    /** What `run` does with each network; undefined on the CPU without --vram, where each is open whole while it is used. */
    readonly plan: EditMemory | undefined;
  };
  readonly advice: readonly FitAdvice[];
}

/** What a plan is made of besides settings. */
export interface PlanRequest {
  readonly sources: readonly Source[];
  /** White where the edit belongs; undefined where there is none. */
  readonly mask: Picture | undefined;
  /** Of earlier sessions on this machine. */
  readonly timings: readonly SessionTiming[];
  readonly device: Device;
  readonly deviceReason: string | undefined;
  readonly tokenizer: PromptTokenizer;
  /** How many pictures are made of these. */
  readonly results: number;
  readonly machine: MachineMemory;
  /** Bytes of the device that networks may take, as `run` would have them; undefined is no limit. */
  readonly vram: number | undefined;
  /** Claims that the user said so; else it is what the card has free. */
  readonly isVramSaid: boolean;
}

/** Bytes this machine has. */
export interface MachineMemory {
  readonly ram: { readonly total: number; readonly available: number };
  /** undefined where nobody said it. */
  readonly gpu: { readonly total: number; readonly available: number } | undefined;
}

/** The device of a plan. */
export function plannedDevice({ device, deviceReason }: Pick<PlanRequest, "device" | "deviceReason">): PlannedDevice {
  return { name: deviceName(device), threads: device.threads > 0 ? device.threads : undefined, reason: deviceReason };
}
