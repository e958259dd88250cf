// The models of an exported folder, as the server's own model answers them: the whole edit by tensors, with the names and tensors of the ensembles.

import { type EnsembleKind, ensembleName } from "../../edit/remote/exported-facts.js";
import { type ResolvedTensorEdit, resolveTensorEdit } from "../../edit/tensors/resolve-tensor-edit.js";
import { type Ensemble, ensembleOf } from "../../export/triton/ensembles.js";
import { MOST_IMAGES, modelTensors, type TensorWidths } from "../../export/triton/tensor-specs.js";
import { tensorWidths } from "../../export/triton/tensor-widths.js";
import type { Emit } from "../../std/events.js";
import type { EditServer } from "../edit-server.js";
import type { ModelSpec } from "./model-specs.js";

/** A model that takes tensors. */
export interface EnsembleSpec extends ModelSpec {
  readonly ensemble: EnsembleKind;
  /** What it edits with. */
  readonly resolved: ResolvedTensorEdit;
}

/** The ensembles by name: for one picture, two and three, without and with guidance. */
export const ENSEMBLES: ReadonlyMap<string, EnsembleKind> = new Map(
  [false, true].flatMap((hasCfg) =>
    Array.from({ length: MOST_IMAGES }, (_, index) => {
      const kind = { images: index + 1, hasCfg };
      return [ensembleName(kind), kind] as const;
    }),
  ),
);

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
  const { name, inputs, outputs } = ensembleTensors(kind, tensorWidths(models));
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

function ensembleTensors(kind: EnsembleKind, widths: TensorWidths): Ensemble {
  return ensembleOf(kind, modelTensors(widths));
}

function tensorOf({ name, datatype, dims }: Ensemble["inputs"][number]): ModelSpec["inputs"][number] {
  return { name, datatype, shape: dims };
}
