// What an export is asked for.
import type { EditFiles, EditModels, ResolvedSettings } from "../../edit/resolve/resolve-edit.js";
import type { Device } from "../../engine/providers.js";

/** What is exported, and for which server. */
export interface TritonExport {
  /** Name of the model, for records. */
  readonly model: string;
  readonly models: EditModels;
  /** Paths of the model files. */
  readonly files: EditFiles;
  readonly settings: ResolvedSettings;
  /** Most pictures of an edit. */
  readonly images: number;
  /** Whether there are ensembles with guidance. */
  readonly hasCfg: boolean;
  /** What the server computes on. */
  readonly device: Device;
  /** CUDA's numbers of the server's GPUs; undefined: the CPU. */
  readonly gpus: readonly number[] | undefined;
  /** Bytes of each GPU that the server may take; undefined: no limit. */
  readonly vram: number | undefined;
}
