// Resolves a request to an edit with every value known and every model file open. Everything that can be refused is refused here.
import { findLora, findModelFiles, type NamedFiles } from "../../catalog/local/find.js";
import type { Box } from "../../image/image.js";
import { usesNegative } from "../../sampling/guidance.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { refuseForeignFiles } from "../../stages/networks/agreeing-files.js";
import type { ActiveLora, NamedLora } from "../../stages/networks/loras.js";
import { parseLora } from "../../stages/networks/loras.js";
import type { ModelHandle, ModelRole } from "../../stages/networks/model-handle.js";
import type { Emit } from "../../std/events.js";
import type { SettingsOf } from "../parameters/parameter.js";
import type { EditSettings, MODEL_PARAMETERS } from "../parameters/table.js";
import { refuseFilesElsewhere } from "./files-elsewhere.js";
import { isNeededHere, type ModelLibrary } from "./model-library.js";
import { resolveSettings, type Unresolved } from "./resolve-settings.js";
import { resolveSampling } from "./sampling-defaults.js";

/** Paths of the model files of an edit. */
export interface EditFiles {
  /** undefined, as the others: its stages run elsewhere. */
  readonly vae: string | undefined;
  readonly textEncoder: string | undefined;
  readonly transformer: string | undefined;
  readonly loras: readonly NamedLora[];
}

/** The model files of an edit, open. */
export interface EditModels {
  /** undefined, as the others: its stages run elsewhere. */
  readonly vae: ModelHandle | undefined;
  readonly textEncoder: ModelHandle | undefined;
  readonly transformer: ModelHandle | undefined;
  readonly loras: readonly ActiveLora[];
}

/** The models of an edit whose stages all run here. */
export type LocalModels = { readonly [Role in keyof EditModels]: NonNullable<EditModels[Role]> };

/** The models, of which none runs elsewhere. Throws if one does. */
export function localModels({ vae, textEncoder, transformer, loras }: EditModels): LocalModels {
  if (!vae || !textEncoder || !transformer) throw new Error("a stage of the edit runs elsewhere");
  return { vae, textEncoder, transformer, loras };
}

type FileParameters = "vae" | "textEncoder" | "transformer" | "lora" | "strictLora";

/** The settings of an edit with every value known. */
export type ResolvedSettings = Omit<EditSettings, FileParameters | "steps" | "cfg"> & {
  readonly steps: number;
  readonly cfg: number;
  /** The part of picture 1 that is edited, by its mask; undefined: all of it, or not known yet. */
  readonly region?: Box | undefined;
};

/** A resolved edit without its pictures. */
export interface ResolvedEdit {
  readonly settings: ResolvedSettings;
  readonly models: EditModels;
  /** Paths of its model files. */
  readonly files: EditFiles;
  /** What its model and LoRAs are called, for stages that run elsewhere; undefined: all run here. */
  readonly called?: { readonly model: string | undefined; readonly lora: readonly string[] };
}

/** The settings that an edit is resolved from. */
export type UnresolvedSettings = EditSettings & SettingsOf<typeof MODEL_PARAMETERS>;

/** Resolves an edit; `values` are the settings with presets and the model's defaults applied. Throws QEDIT_E_USAGE, QEDIT_E_MODEL_MISSING, QEDIT_E_CHECKPOINT, QEDIT_E_LORA. */
export async function resolveEdit<Settings extends UnresolvedSettings>(
  unresolved: Unresolved<Settings>,
  library: ModelLibrary,
): Promise<ResolvedEdit & { readonly values: Settings }> {
  const { emit, settings } = unresolved;
  refuseEmptyPrompt(settings);
  const values = await resolveSettings(
    unresolved,
    async (path) => (await library.model(path, "transformer", emit)).checkpoint,
  );
  refuseFilesElsewhere(values, { given: unresolved.given, elsewhere: library.elsewhere, emit });
  const files = await findEditFiles(values, emit, library);
  const models = await openModels(files, values, { library, emit });
  // Its own name only: what files here are of says nothing of those elsewhere.
  const [{ model }, { lora }] = [settings, values];
  const called = library.elsewhere.size > 0 ? { called: { model, lora } } : {};
  return { settings: withNumbers(values), models, files, values, ...called };
}

/** Fills in steps, cfg and the negative prompt: undefined if guidance does not use it, else empty by default, as in ComfyUI's template. */
export function withNumbers(settings: EditSettings): ResolvedSettings {
  const { vae: _v, textEncoder: _e, transformer: _t, lora: _l, strictLora: _s, ...rest } = settings;
  const { steps, cfg } = resolveSampling(settings);
  const negativePrompt = usesNegative(cfg) ? (settings.negativePrompt ?? "") : undefined;
  return { ...rest, steps, cfg, negativePrompt };
}

/** Opens the files of an edit. Throws QEDIT_E_CHECKPOINT, QEDIT_E_LORA. */
export async function openModels(
  files: EditFiles,
  { strictLora }: Pick<EditSettings, "strictLora">,
  { library, emit }: { library: ModelLibrary; emit: Emit },
): Promise<EditModels> {
  const open = async (role: ModelRole) => {
    const path = files[role];
    return path === undefined ? undefined : library.model(path, role, emit);
  };
  const vae = await open("vae");
  const textEncoder = await open("textEncoder");
  const transformer = await open("transformer");
  refuseForeignFiles({ vae, textEncoder, transformer });
  const loras = transformer ? await library.loras(files.loras, { transformer, isStrict: strictLora, emit }) : [];
  const ready = async (file: ModelHandle | undefined) => file && library.ready(file, emit);
  return { vae: await ready(vae), textEncoder: await ready(textEncoder), transformer: await ready(transformer), loras };
}

/** The model file of a role: the one the user named, else the model's. Throws QEDIT_E_MODEL_MISSING. */
export async function findModelFile(
  role: ModelRole,
  settings: { readonly [Role in ModelRole]?: string | undefined } & SettingsOf<typeof MODEL_PARAMETERS>,
  emit: Emit,
): Promise<string> {
  const { model, modelsDir: modelsDirs } = settings;
  const path = (await findModelFiles(namedFiles(settings), { model, roles: [role], modelsDirs }))[role]!;
  emit({ kind: "detail", text: `${role}: ${path}` });
  return path;
}

/** The model files that settings name: each by itself, else the file that holds all three. */
export function namedFiles({
  vae,
  textEncoder,
  transformer,
  checkpoint,
}: { readonly [Role in ModelRole]?: string | undefined } & SettingsOf<typeof MODEL_PARAMETERS>): NamedFiles {
  return {
    vae: vae ?? checkpoint,
    textEncoder: textEncoder ?? checkpoint,
    transformer: transformer ?? checkpoint,
  };
}

/** Finds LoRAs written as FILE, FILE:STRENGTH, or by their name in the model's catalogue entry. Throws QEDIT_E_MODEL_MISSING. */
export async function findLoras(
  written: readonly string[],
  { model, modelsDir: modelsDirs }: SettingsOf<typeof MODEL_PARAMETERS>,
  emit: Emit,
): Promise<NamedLora[]> {
  return Promise.all(
    written.map(async (each) => {
      const { path, strength } = parseLora(each);
      const found = await findLora(path, { model, modelsDirs });
      emit({ kind: "detail", text: `lora: ${found}:${strength}` });
      return { path: found, strength };
    }),
  );
}

/** The model files of an edit by its resolved settings, without those of stages that run elsewhere. Throws QEDIT_E_MODEL_MISSING. */
export async function findEditFiles(
  settings: UnresolvedSettings,
  emit: Emit,
  library: Pick<ModelLibrary, "elsewhere"> = { elsewhere: new Set() },
): Promise<EditFiles> {
  const { model, modelsDir: modelsDirs } = settings;
  const roles = (["vae", "textEncoder", "transformer"] as const).filter((role) => isNeededHere(role, library));
  const found = roles.length > 0 ? await findModelFiles(namedFiles(settings), { model, roles, modelsDirs }) : {};
  const loras = isNeededHere("transformer", library) ? await findLoras(settings.lora, settings, emit) : [];
  for (const role of roles) emit({ kind: "detail", text: `${role}: ${found[role]}` });
  return { vae: found.vae, textEncoder: found.textEncoder, transformer: found.transformer, loras };
}
