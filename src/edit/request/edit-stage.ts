// One stage of an edit whose other stages are computed elsewhere: the settings are those of the whole edit, the model files those of this stage alone.
import type { ModelHandle, ModelRole } from "../../stages/networks/model-handle.js";
import type { StageName } from "../../stages/stage.js";
import type { Emit } from "../../std/events.js";
import { encodingOf, refuseOtherQuality } from "../finish/picture-encoding.js";
import { EDIT_PARAMETERS } from "../parameters/table.js";
import type { ModelLibrary } from "../resolve/model-library.js";
import {
  type EditModels,
  findLoras,
  findModelFile,
  type ResolvedEdit,
  type ResolvedSettings,
  withNumbers,
} from "../resolve/resolve-edit.js";
import { resolveSettings } from "../resolve/resolve-settings.js";
import { type BaseSettings, type EditRequest, type RequestSettings, readRequest } from "./edit-request.js";

/** Where a request came from. */
interface StageOrigin {
  readonly base: BaseSettings;
  readonly library: ModelLibrary;
  readonly emit: Emit;
}

/** A stage of an edit. */
export interface EditStage {
  /** With every number of the edit known, but the seed if it is left to chance. */
  readonly settings: ResolvedSettings;
  /** The settings with presets and the model's defaults applied. */
  readonly values: RequestSettings;
  /** The model files of the stage, open; none if it runs elsewhere. */
  readonly models: Partial<EditModels>;
  /** What its model and LoRAs are called, if it runs elsewhere. */
  readonly called?: ResolvedEdit["called"];
}

/** The model file of each stage. */
const ROLES = {
  "encode-image": "vae",
  "encode-prompt": "textEncoder",
  sample: "transformer",
  decode: "vae",
} as const satisfies Readonly<Record<StageName, ModelRole>>;

/** Resolves a stage of an edit. Throws QEDIT_E_USAGE, QEDIT_E_MODEL_MISSING, QEDIT_E_CHECKPOINT, QEDIT_E_LORA. */
export async function resolveEditStage(
  stage: StageName,
  { parameters }: Pick<EditRequest, "parameters">,
  { base, library, emit }: StageOrigin,
): Promise<EditStage> {
  const isElsewhere = library.elsewhere.has(stage);
  const hasLorasElsewhere = stage !== "sample" || isElsewhere;
  const unresolved = await readRequest({ parameters }, { base, hasPaths: false, hasLorasElsewhere, emit });
  const values = await resolveSettings(unresolved);
  refuseOtherQuality(encodingOf(values).format, unresolved.given);
  if (isElsewhere) {
    const { model, lora } = values;
    return { settings: withNumbers(values), values, models: {}, called: { model, lora } };
  }
  const role = ROLES[stage];
  const handle = await library.model(await findModelFile(role, values, emit), role, emit);
  const loras = hasLorasElsewhere ? undefined : await openLoras(handle, values, { library, emit });
  const ready = await library.ready(handle, emit);
  return { settings: withNumbers(values), values, models: { [role]: ready, ...(loras && { loras }) } };
}

async function openLoras(
  transformer: ModelHandle,
  values: RequestSettings,
  { library, emit }: Omit<StageOrigin, "base">,
): Promise<EditModels["loras"]> {
  const named = await findLoras(values.lora, values, emit);
  return library.loras(named, { transformer, isStrict: values.strictLora, emit });
}

/** Model files count by their weights, whatever their names; these do not change the picture. */
const IRRELEVANT = new Set([
  "vae",
  "textEncoder",
  "transformer",
  "lora",
  "strictLora",
  "mask",
  "allowEmptyPrompt",
  "tile",
]);

/** The settings that determine a picture, of all or of some parameters, as JSON; resolved settings also hold those of the machine, such as its folders. */
export function determining(
  values: Readonly<Record<string, unknown>>,
  parameters: readonly string[] = Object.keys(EDIT_PARAMETERS),
): Readonly<Record<string, unknown>> {
  const names = parameters.filter((name) => !IRRELEVANT.has(name));
  return Object.fromEntries(names.toSorted().map((name) => [name, asJson(values[name])]));
}

function asJson(value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : (value ?? null);
}
