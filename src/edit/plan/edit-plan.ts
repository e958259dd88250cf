// The plan of an edit: everything that is known before it is computed. Plain data; printed as text or with --json.
import { type Device, deviceName } from "../../engine/providers.js";
import type { Box, Size } from "../../image/image.js";
import type { PlanMode, Source } from "../../image/resize/size-plan.js";
import type { Picture } from "../../stages/pictures.js";
import type { StageName } from "../../stages/stage.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { RemoteServers } from "../remote/remote-servers.js";
import type { SequenceTokens } from "./edit-lengths.js";
import type { EditMemory } from "./edit-memory.js";
import type { FitAdvice, MemoryNeed } from "./fit.js";
import type { PlannedFile } from "./model-files.js";
import type { StagePlan } from "./stage-plan.js";
import type { SessionTiming } from "./timings.js";

/** Sizes of a reference picture or of the result. */
export interface LatentSizes {
  /** Pixels that the VAE encodes or decodes. */
  readonly size: Size;
  /** The part of the source that is used, in pixels. */
  readonly box: Box;
  /** Cells of the latent. */
  readonly latent: Size;
  readonly tokens: number;
  /** Why it is that size. */
  readonly why: string;
}

/** Sizes of a picture in every stage. */
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
  /** Why it was chosen; undefined if the user chose it. */
  readonly reason: string | undefined;
}

/** The plan of an edit: `qedit plan --json`. Bytes, seconds and floating-point operations are totals of the edit unless noted. */
export interface EditPlan {
  /** Number of result pictures, each with its own seed. */
  readonly results: number;
  readonly device: PlannedDevice;
  readonly sizes: {
    readonly mode: PlanMode;
    readonly pictures: readonly PictureSizes[];
    readonly target: LatentSizes;
    /** Pixels of the picture that is written. */
    readonly output: Size;
  };
  readonly tokens: SequenceTokens;
  readonly sampling: {
    readonly steps: number;
    readonly cfg: number;
    readonly sampler: string;
    readonly scheduler: string;
    /** Runs of the transformer for one picture, with the prompt and with the negative prompt. */
    readonly evaluations: { readonly positive: number; readonly negative: number };
    /** The threshold of a step cache; absent: there is none. How many evaluations it reuses is known when they are made: work and time are those without. */
    readonly stepCache?: number;
  };
  /** Those that run here. */
  readonly stages: readonly StagePlan[];
  /** The servers of the stages that run elsewhere; absent: all run here. */
  readonly elsewhere?: Readonly<Partial<Record<StageName, string>>>;
  /** Whether one request makes the whole edit there. */
  readonly isOneRequest?: true;
  readonly files: readonly PlannedFile[];
  readonly totals: {
    readonly flops: number;
    /** Bytes of weights read from disk, if the page cache keeps what was read. */
    readonly readBytes: number;
    /** undefined if a network has never run on this machine. */
    readonly seconds: number | undefined;
    /** Of the tensor files that stages hand on: latents, embeddings and samples of one result, float32. */
    readonly tensorBytes: number;
    readonly missingFiles: number;
    readonly missingBytes: number;
  };
  readonly memory: {
    readonly ram: MemoryNeed;
    /** undefined on the CPU. */
    readonly gpu: MemoryNeed | undefined;
    /** The memory plan of each network; undefined on the CPU without --vram, where each network is opened whole. */
    readonly plan: EditMemory | undefined;
  };
  readonly advice: readonly FitAdvice[];
}

/** What a plan depends on besides settings. */
export interface PlanRequest {
  readonly sources: readonly Source[];
  /** White where the edit belongs; undefined: no mask. */
  readonly mask: Picture | undefined;
  /** Timings of earlier sessions on this machine. */
  readonly timings: readonly SessionTiming[];
  readonly device: Device;
  readonly deviceReason: string | undefined;
  readonly tokenizer: PromptTokenizer;
  /** Number of result pictures. */
  readonly results: number;
  readonly machine: MachineMemory;
  /** Bytes of the device that networks may take, as for `run`; undefined is no limit. */
  readonly vram: number | undefined;
  /** Servers of stages that run elsewhere. */
  readonly remote?: RemoteServers;
  /** Whether the user gave `vram`; else it is the free memory of the GPU. */
  readonly isVramGiven: boolean;
}

/** Memory of this machine, in bytes. */
export interface MachineMemory {
  readonly ram: { readonly total: number; readonly available: number };
  /** undefined if unknown. */
  readonly gpu: { readonly total: number; readonly available: number } | undefined;
}

/** The device of a plan. */
export function plannedDevice({ device, deviceReason }: Pick<PlanRequest, "device" | "deviceReason">): PlannedDevice {
  return { name: deviceName(device), threads: device.threads > 0 ? device.threads : undefined, reason: deviceReason };
}
