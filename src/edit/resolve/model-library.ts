// A cache of opened model files: each header is read once for any number of edits, until the file changes.
import { makeRepacked } from "../../catalog/local/repacked-files.js";
import { type ReadFiles, wouldReadSame } from "../../checkpoint/file-identity.js";
import { refuseUnmatched } from "../../checkpoint/lora/lora.js";
import type { Identified } from "../../checkpoint/open.js";
import {
  type ActiveLora,
  activeLora,
  type MatchedLora,
  type NamedLora,
  openMatchedLora,
} from "../../stages/networks/loras.js";
import {
  type ModelHandle,
  type ModelRole,
  openIdentified,
  openModel,
  readyModel,
} from "../../stages/networks/model-handle.js";
import type { StageName } from "../../stages/stage.js";
import type { Emit } from "../../std/events.js";

/** Opens model files, from the cache if they have not changed. */
export interface ModelLibrary {
  /** Stages that run elsewhere, whose model files are not needed here. */
  readonly elsewhere: ReadonlySet<StageName>;
  /** What the headers say of a model, which is not computed with before it is ready. Throws what openModel throws. */
  readonly model: (path: string, role: ModelRole, emit: Emit) => Promise<ModelHandle>;
  /** The model with its weights repacked where they must be: gigabytes are written, so that all else is refused first. Throws what readyModel throws. */
  readonly ready: (file: ModelHandle, emit: Emit) => Promise<ModelHandle>;
  /** LoRAs matched to a transformer, in order. Throws QEDIT_E_LORA; if strict, for any unmatched key. */
  readonly loras: (named: readonly NamedLora[], matching: Matching) => Promise<readonly ActiveLora[]>;
}

interface Matching {
  readonly transformer: ModelHandle;
  readonly isStrict: boolean;
  readonly emit: Emit;
}

/** An empty library; the model files of stages that run elsewhere are not needed. */
export function modelLibrary(elsewhere: ReadonlySet<StageName> = new Set()): ModelLibrary {
  const models = openFiles<ModelHandle>();
  // One file may serve for several roles.
  const stored = openFiles<Identified>();
  const openReported = async (path: string, role: ModelRole, emit: Emit) => {
    const handle = await openModel(path, role, {
      open: (place) => stored(place, place, () => openIdentified(place), emit),
    });
    if (handle.warning !== undefined) emit({ kind: "warning", text: handle.warning });
    return handle;
  };
  const ready = openFiles<ModelHandle>();
  const loras = openFiles<MatchedLora>();
  return {
    elsewhere,
    model: (path, role, emit) => models(`${role} ${path}`, path, () => openReported(path, role, emit), emit),
    async ready(file, emit) {
      const { repacked, checkpoint } = file;
      if (!repacked) return file;
      const repack = () => readyModel(file, (each) => makeRepacked(each, { emit }));
      return ready(`${checkpoint.file} as ${repacked.path}`, repacked.path, repack, emit);
    },
    async loras(named, { transformer, isStrict, emit }) {
      const active: ActiveLora[] = [];
      for (const [index, { path, strength }] of named.entries()) {
        const key = `lora ${path} ${transformer.checkpoint.file} ${transformer.identity}`;
        const lora = await loras(key, path, () => openMatchedLora(path, transformer.checkpoint), emit);
        if (isStrict) refuseUnmatched(lora.match);
        active.push(activeLora(lora, { index, strength }));
      }
      return active;
    },
  };
}

type Opening<T> = (key: string, path: string, open: () => Promise<T>, emit: Emit) => Promise<T>;

function openFiles<T extends ReadFiles>(): Opening<T> {
  const known = new Map<string, Promise<T>>();
  return async (key, path, open, emit) => {
    const cached = known.get(key);
    if (cached && (await wouldReadSame(await cached))) return cached;
    if (key === path) emit({ kind: "detail", text: `reading the header of ${path}` });
    const handle = open();
    known.set(key, handle);
    // A failure is not cached: the next try may succeed.
    handle.catch(() => known.delete(key));
    return handle;
  };
}

/** The stages that run each model file. */
const STAGES_OF: Readonly<Record<ModelRole, readonly StageName[]>> = {
  vae: ["encode-image", "decode"],
  textEncoder: ["encode-prompt"],
  transformer: ["sample"],
};

/** Whether a stage that runs here needs a model file. */
export function isNeededHere(role: ModelRole, { elsewhere }: Pick<ModelLibrary, "elsewhere">): boolean {
  return STAGES_OF[role].some((stage) => !elsewhere.has(stage));
}
