// A prompt without a picture: some models make one, others only edit.
import { readCatalog } from "../../catalog/published/models.js";
import { transformerOf } from "../../models/transformers.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { param, QeditError } from "../../std/errors.js";
import { jsonName } from "../parameters/parameter.js";

/** What decides the model of a call. */
interface ModelChoice {
  readonly model?: string | undefined;
  readonly transformer?: string | undefined;
  readonly checkpoint?: string | undefined;
}

/** Throws QEDIT_E_USAGE for no picture where the catalogue says that the model only edits. Of files that were named, their own tensors decide when they are open. */
export async function refuseNoPicture(count: number, { model, transformer, checkpoint }: ModelChoice): Promise<void> {
  if (count > 0 || transformer !== undefined || checkpoint !== undefined) return;
  const { default: first, models } = await readCatalog();
  const chosen = models.get(model ?? first);
  if (chosen === undefined || chosen.generates) return;
  const generating = [...models.values()].find(({ generates }) => generates);
  throw noPicture(generating?.name);
}

/** Settings that are about picture 1, with the value that leaves it alone. */
const OF_PICTURE_1 = {
  ...{ keepSize: false, pasteBack: false, cropMask: false, keepExif: false },
  ...{ mask: undefined, feather: undefined, maskMargin: undefined, denoise: 1 },
} as const;

/** Throws QEDIT_E_USAGE for no picture with a transformer that only edits, and for settings that are about picture 1. */
export function refuseWithoutPicture(
  settings: Readonly<Record<keyof typeof OF_PICTURE_1, unknown>>,
  { transformer }: { readonly transformer?: ModelHandle | undefined },
): void {
  // Where another machine has it, the catalogue has decided: its weights are held against those of the model.
  if (transformer && !transformerOf(numbersOf(transformer.checkpoint), transformer.config).generates) throw noPicture();
  for (const [name, idle] of Object.entries(OF_PICTURE_1)) {
    if (settings[name as keyof typeof OF_PICTURE_1] === idle) continue;
    const parameter = jsonName(name);
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param(parameter)}: there is no picture`, {
      hint: `Name one, or leave out ${param(parameter)}`,
      parameter,
    });
  }
}

/** The refusal; `model`: one that needs no picture. */
export function noPicture(model?: string): QeditError {
  const other = model === undefined ? "" : `, or let a model make one of the prompt alone: ${param("model", model)}`;
  return new QeditError("QEDIT_E_USAGE", "No picture was given", {
    hint: `Give at least one${other}`,
    parameter: "image",
  });
}
