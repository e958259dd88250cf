// Single stages as an interface asks for them: the values of a stage's parameters, and its model files, open.

import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import type { ModelHandle, ModelRole } from "../../stages/networks/model-handle.js";
import type { StageName } from "../../stages/stage.js";
import { closest } from "../../std/closest.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { encodingOf, type PictureEncoding, refuseOtherQuality } from "../finish/picture-encoding.js";
import { jsonName, type ParameterTable, type SettingsOf } from "../parameters/parameter.js";
import { MODEL_PARAMETERS, PICTURE_PARAMETERS, PRESET_PARAMETERS, STAGE_PARAMETERS } from "../parameters/table.js";
import { drawSeed } from "../resolve/draw-seed.js";
import type { ModelLibrary } from "../resolve/model-library.js";
import { findLoras, findModelFile } from "../resolve/resolve-edit.js";
import { resolveSettings, type Unresolved } from "../resolve/resolve-settings.js";
import { resolveSampling } from "../resolve/sampling-defaults.js";
import { type BaseSettings, REQUEST_PARAMETERS, readRequest } from "./edit-request.js";

const { force, resolved } = REQUEST_PARAMETERS;

/** The parameters that a request for a stage may have. */
export const STAGE_REQUEST_PARAMETERS = {
  "encode-image": { ...STAGE_PARAMETERS["encode-image"], ...MODEL_PARAMETERS, force, resolved },
  "encode-prompt": { ...STAGE_PARAMETERS["encode-prompt"], ...MODEL_PARAMETERS, force, resolved },
  sample: { ...STAGE_PARAMETERS.sample, ...PRESET_PARAMETERS, ...MODEL_PARAMETERS, force, resolved },
  decode: { ...STAGE_PARAMETERS.decode, ...PICTURE_PARAMETERS, ...MODEL_PARAMETERS, force, resolved },
} as const satisfies Readonly<Record<StageName, ParameterTable>>;

type Tables = typeof STAGE_REQUEST_PARAMETERS;

/** Where a request for a stage came from, and what it is resolved with. */
export interface StageOrigin {
  readonly base: BaseSettings;
  readonly library: ModelLibrary;
  readonly emit: Emit;
}

/** The model file of each stage. */
const ROLES = {
  "encode-image": "vae",
  "encode-prompt": "textEncoder",
  sample: "transformer",
  decode: "vae",
} as const satisfies Readonly<Record<StageName, ModelRole>>;

/** Values of parameters by JSON name; null: not set. */
type Parameters = Readonly<Record<string, unknown>>;

/** The settings and the VAE of encode-image. Throws QEDIT_E_USAGE, QEDIT_E_MODEL_MISSING, QEDIT_E_CHECKPOINT. */
export async function resolveEncodeImage(parameters: Parameters, origin: StageOrigin) {
  const settings = await resolveSettings(await read("encode-image", parameters, origin));
  return { settings, models: { vae: await modelOf("encode-image", settings, origin) } };
}

/** The settings and the text encoder of encode-prompt. Throws as resolveEncodeImage. */
export async function resolveEncodePrompt(parameters: Parameters, origin: StageOrigin) {
  const { settings } = await read("encode-prompt", parameters, origin);
  refuseEmptyPrompt(settings);
  return { settings, models: { textEncoder: await modelOf("encode-prompt", settings, origin) } };
}

/** The settings of sample with every number known, the transformer and its LoRAs. Throws as resolveEncodeImage, and QEDIT_E_LORA. */
export async function resolveSample(parameters: Parameters, origin: StageOrigin) {
  const { library, emit } = origin;
  const settings = await resolveSettings(await read("sample", parameters, origin));
  const found = await headerOf("sample", settings, origin);
  const loras = found
    ? await library.loras(await findLoras(settings.lora, settings, emit), {
        ...{ transformer: found, emit },
        isStrict: settings.strictLora,
      })
    : [];
  const numbers = { ...settings, ...resolveSampling(settings) };
  const transformer = found && (await library.ready(found, emit));
  return { ...drawSeed(numbers, emit), models: { transformer, loras } };
}

/** The settings and the VAE of decode, and how its picture is encoded. Throws as resolveEncodeImage. */
export async function resolveDecode(parameters: Parameters, origin: StageOrigin) {
  const { settings, given } = await read("decode", parameters, origin);
  const encoding: PictureEncoding = encodingOf(settings);
  refuseOtherQuality(encoding.format, given);
  return { settings, encoding, models: { vae: await modelOf("decode", settings, origin) } };
}

// As a request for an edit is read, by the parameters of the stage alone.
async function read<Stage extends StageName>(
  stage: Stage,
  parameters: Parameters,
  { base, library, emit }: StageOrigin,
): Promise<Unresolved<SettingsOf<Tables[Stage]>>> {
  const keys = Object.keys(STAGE_REQUEST_PARAMETERS[stage]);
  refuseOthers(parameters, stage, keys.map(jsonName));
  const given = new Map([...base.given].filter(([key]) => keys.includes(key)));
  const { settings, ...rest } = await readRequest(
    { parameters },
    { base: { settings: base.settings, given }, library, hasPaths: false, emit },
  );
  const own = Object.fromEntries(keys.map((key) => [key, settings[key as keyof typeof settings]]));
  return { ...rest, settings: own as SettingsOf<Tables[Stage]> };
}

function refuseOthers(parameters: Parameters, stage: StageName, known: readonly string[]): void {
  const other = Object.keys(parameters)
    .find((name) => !known.includes(name))
    ?.slice(0, 100);
  if (other === undefined) return;
  const near = closest(other.toLowerCase(), known);
  throw new QeditError("QEDIT_E_USAGE", `"${other}" is no parameter of ${stage}`, {
    hint: near === undefined ? `It has ${known.join(", ")}` : `Did you mean ${param(near)}?`,
    parameter: other,
  });
}

type NamedModels = { readonly [Role in ModelRole]?: string | undefined } & SettingsOf<typeof MODEL_PARAMETERS>;

// undefined for a stage that runs elsewhere.
async function modelOf(stage: StageName, settings: NamedModels, origin: StageOrigin): Promise<ModelHandle | undefined> {
  const found = await headerOf(stage, settings, origin);
  return found && origin.library.ready(found, origin.emit);
}

// As modelOf, of which nothing is repacked yet.
async function headerOf(
  stage: StageName,
  settings: NamedModels,
  { library, emit }: StageOrigin,
): Promise<ModelHandle | undefined> {
  if (library.elsewhere.has(stage)) return undefined;
  const role = ROLES[stage];
  return library.model(await findModelFile(role, settings, emit), role, emit);
}
