// What an edit by tensors is made with: the model that is set where it is made, its LoRAs and compute types. All else is in the tensors.
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { type BaseSettings, REQUEST_PARAMETERS, type RequestSettings } from "../request/edit-request.js";
import type { ModelLibrary } from "../resolve/model-library.js";
import { type LocalModels, localModels, type ResolvedEdit, resolveEdit } from "../resolve/resolve-edit.js";

/** A resolved edit whose stages all run here. */
export interface ResolvedTensorEdit extends ResolvedEdit {
  readonly models: LocalModels;
}

/** The settings that count: those that an export fixes in its graphs. */
const KEPT = new Set<string>([
  ...["model", "checkpoint", "modelsDir", "vae", "textEncoder", "transformer"],
  ...["lora", "strictLora", "fast", "cfgNorm", "referenceMethod", "dtype", "textDtype", "vaeDtype", "tile"],
]);

/**
 * Resolves an edit by tensors over the settings of its place. Throws QEDIT_E_MODEL_MISSING where it has no model, or some of its stages run elsewhere;
 * QEDIT_E_CHECKPOINT, QEDIT_E_LORA.
 */
export async function resolveTensorEdit({
  base,
  library,
  emit,
}: {
  readonly base: BaseSettings;
  readonly library: ModelLibrary;
  readonly emit: Emit;
}): Promise<ResolvedTensorEdit> {
  const [elsewhere] = library.elsewhere;
  if (elsewhere !== undefined)
    throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot edit by tensors: ${elsewhere} runs elsewhere`, {
      hint: "Send pictures and a prompt: the model qedit",
    });
  const values = Object.entries(REQUEST_PARAMETERS).map(([name, { initial }]) => [
    name,
    KEPT.has(name) ? base.settings[name as keyof RequestSettings] : initial,
  ]);
  // The prompt is in the tensors.
  const settings = { ...(Object.fromEntries(values) as RequestSettings), allowEmptyPrompt: true, mask: undefined };
  const given = new Map([...base.given].filter(([name]) => KEPT.has(name)));
  const resolved = await resolveEdit({ settings, given, force: false, emit }, library);
  const { files } = resolved;
  const models = localModels(resolved.models);
  return { settings: resolved.settings, models, files };
}
