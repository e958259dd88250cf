// The models of an exported folder, as the server's own model answers them: the whole edit by tensors, with the names and tensors of the ensembles.

import { type EnsembleKind, ensembleName } from "../../edit/remote/exported-facts.js";
import { type ResolvedTensorEdit, resolveTensorEdit } from "../../edit/tensors/resolve-tensor-edit.js";
import { type Ensemble, ensembleOf } from "../../export/triton/ensembles.js";
import { MOST_IMAGES, modelTensors, pictureCounts, type TensorWidths } from "../../export/triton/tensor-specs.js";
import { tensorWidths } from "../../export/triton/tensor-widths.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { EditServer } from "../edit-server.js";
import type { ModelSpec } from "./model-specs.js";

/** A model that takes tensors. */
export interface EnsembleSpec extends ModelSpec {
  readonly ensemble: EnsembleKind;
  /** What it edits with. */
  readonly resolved: ResolvedTensorEdit;
}

/** The ensembles of any model, by name: for each number of pictures, without and with guidance. */
export const ENSEMBLES: ReadonlyMap<string, EnsembleKind> = kindsOf({ least: 0, most: MOST_IMAGES });

/** Those that every model has. */
export const USUAL_ENSEMBLES: readonly string[] = [...kindsOf({ least: 1, most: 3 }).keys()];

function kindsOf(pictures: TensorWidths["pictures"]): ReadonlyMap<string, EnsembleKind> {
  return new Map(
    [false, true].flatMap((hasCfg) =>
      pictureCounts({ pictures }).map((images) => [ensembleName({ images, hasCfg }), { images, hasCfg }] as const),
    ),
  );
}

/** Whether a model is an ensemble. */
export function isEnsemble(spec: ModelSpec): spec is EnsembleSpec {
  return "ensemble" in spec;
}

/** An ensemble with the server's model as it is now. Throws QEDIT_E_MODEL_MISSING where it has none; QEDIT_E_CHECKPOINT, QEDIT_E_LORA. */
export async function ensembleSpec(
  kind: EnsembleKind,
  server: EditServer,
  emit: Emit = () => {},
): Promise<EnsembleSpec> {
  const { base, library } = server;
  const resolved = await resolveTensorEdit({ base, library, emit });
  const { models, settings } = resolved;
  const widths = tensorWidths(models);
  const { least, most } = widths.pictures;
  if (kind.images < least || kind.images > most)
    throw new QeditError(
      "QEDIT_E_MODEL_MISSING",
      `There is no ${ensembleName(kind)}: ${models.transformer.name} takes ${least} to ${most} pictures`,
      { hint: `Call one of ${[...kindsOf(widths.pictures).keys()].join(", ")}` },
    );
  const { name, inputs, outputs } = ensembleTensors(kind, widths);
  return {
    ...{ name, ensemble: kind, resolved, parameters: [] },
    inputs: inputs.map(tensorOf),
    outputs: outputs.map(tensorOf),
    config: {
      images: String(kind.images),
      vae: models.vae.name,
      text_encoder: models.textEncoder.name,
      transformer: models.transformer.name,
      ...Object.fromEntries(
        models.loras.map(({ name: lora, strength }, index) => [`lora.${index}`, `${lora}:${strength}`]),
      ),
      sampler: "euler",
      cfg_norm: String(settings.cfgNorm),
    },
  };
}

/** The names of the ensembles of the server's model. Throws as ensembleSpec. */
export async function ensembleNames({ base, library }: EditServer): Promise<readonly string[]> {
  const { models } = await resolveTensorEdit({ base, library, emit: () => {} });
  return [...kindsOf(tensorWidths(models).pictures).keys()];
}

function ensembleTensors(kind: EnsembleKind, widths: TensorWidths): Ensemble {
  return ensembleOf(kind, modelTensors(widths));
}

function tensorOf({ name, datatype, dims }: Ensemble["inputs"][number]): ModelSpec["inputs"][number] {
  return { name, datatype, shape: dims };
}
