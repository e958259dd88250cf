// The two forms of servers, told apart by what their models take and give: another qedit, whose stages take artifacts with their records, and exported
// models, as Triton serves them, which take bare tensors.
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { type ListedModel, V2CallError } from "../../kserve/client/v2-client.js";
import type { StageName } from "../../stages/stage.js";
import { type EnsembleKind, ensembleName } from "./exported-facts.js";
import { type ExportedThere, exportedThere, isOfTensors } from "./exported-there.js";
import { foreignModel, type RemoteServer } from "./remote-model.js";
import { WHOLE } from "./remote-servers.js";

/** A model of qedit's own form: what tells it, and the record of its result. */
interface OwnForm {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly record: string;
  readonly kind: ArtifactKind;
}

/** The tensors of an exported model, and the files that it computes with. */
interface ExportedForm {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly roles: readonly string[];
}

/** The model of each stage where another qedit runs it. */
export const OWN_FORMS = {
  "encode-image": { name: "encode_image", inputs: ["IMAGE", "IMAGE_NAMES"], record: "latents_record", kind: "latents" },
  "encode-prompt": { name: "encode_prompt", inputs: ["PROMPT", "IMAGE"], record: "cond_record", kind: "cond" },
  sample: {
    name: "sample",
    inputs: ["latent", "latents_record", "cond_record"],
    record: "samples_record",
    kind: "samples",
  },
  decode: { name: "decode", inputs: ["latent_tensor", "samples_record"], record: "RECIPE", kind: "samples" },
} as const satisfies Readonly<Record<StageName, OwnForm>>;

/** What tells that the model of the whole edit is of qedit's form. */
const OWN_EDIT = { inputs: ["IMAGE", "PROMPT"], outputs: ["IMAGE", "RECIPE"] };

const SAMPLED = {
  inputs: ["noise", "reference_tokens", "reference_sizes", "prompt_embeds", "sigmas"],
  outputs: ["latents"],
  roles: ["transformer"],
};
const GUIDED = { ...SAMPLED, inputs: [...SAMPLED.inputs, "negative_prompt_embeds", "cfg"] };
/** The same of a family whose prompts say where pictures stand. */
const PLACED = { ...SAMPLED, inputs: [...SAMPLED.inputs, "image_positions"] };
const GUIDED_PLACED = { ...GUIDED, inputs: [...GUIDED.inputs, "image_positions", "negative_image_positions"] };
const GUIDED_NAME = "sample_cfg";

/** The model of each stage where it was exported; its name is the same. */
const EXPORTED_FORMS: Readonly<Record<StageName, readonly ExportedForm[]>> = {
  "encode-image": [{ inputs: ["image"], outputs: ["latent"], roles: ["vae"] }],
  "encode-prompt": [
    {
      inputs: ["input_ids", "pixel_values", "image_grid_thw"],
      outputs: ["prompt_embeds"],
      roles: ["text_encoder"],
    },
  ],
  sample: [SAMPLED, PLACED],
  decode: [{ inputs: ["latents"], outputs: ["image"], roles: ["vae"] }],
};

/** A server's model of a stage: of qedit's own form, or exported. Throws V2CallError, QEDIT_E_NETWORK for one of another form. */
export async function formOfStage(
  stage: StageName,
  server: RemoteServer,
  { isGuided }: { readonly isGuided: boolean },
): Promise<"qedit" | ExportedThere> {
  const { name, inputs, record } = OWN_FORMS[stage];
  const listed = await server.listed(name);
  if (hasTensors(listed, { inputs, outputs: [record] })) return "qedit";
  const plain = await exportedOf(server, { name, listed, forms: EXPORTED_FORMS[stage] });
  if (stage !== "sample" || !isGuided || !plain.facts.guidance) return plain;
  return exportedOf(server, {
    name: GUIDED_NAME,
    listed: await server.listed(GUIDED_NAME),
    forms: [GUIDED, GUIDED_PLACED],
  });
}

/**
 * A server's model of a whole edit: qedit's own, or the exported one for this number of pictures. Where a server has none for it, the smallest that it
 * has, whose facts say what is missing. Throws V2CallError, QEDIT_E_NETWORK for one of another form.
 */
export async function formOfEdit(server: RemoteServer, kind: EnsembleKind): Promise<"qedit" | ExportedThere> {
  const own = await listedOrNone(server, WHOLE);
  if (own.listed !== undefined) {
    if (hasTensors(own.listed, OWN_EDIT)) return "qedit";
    throw foreignModel(WHOLE, own.listed, server.address);
  }
  for (const each of [kind, { images: 1, hasCfg: false }]) {
    const name = ensembleName(each);
    const { listed } = await listedOrNone(server, name);
    if (listed !== undefined) return exportedOf(server, { name, listed, forms: [formOfEnsemble(each)] });
  }
  throw own.error;
}

function formOfEnsemble({ images, hasCfg }: EnsembleKind): ExportedForm {
  const pictures = Array.from({ length: images }, (_, index) => `image_${index + 1}`);
  return {
    inputs: [
      ...pictures,
      ...["input_ids", "noise", "sigmas"],
      // An edit of no picture has them made there.
      ...(images > 0 ? ["pixel_values", "image_grid_thw"] : []),
      ...(hasCfg ? ["negative_input_ids", "cfg"] : []),
    ],
    outputs: ["image"],
    roles: ["vae", "text_encoder", "transformer"],
  };
}

function exportedOf(
  server: RemoteServer,
  {
    name,
    listed,
    forms,
  }: { readonly name: string; readonly listed: ListedModel; readonly forms: readonly ExportedForm[] },
): Promise<ExportedThere> {
  const form = forms.find((each) => isOfTensors(listed, each));
  if (form === undefined) throw foreignModel(name, listed, server.address);
  return exportedThere(server, { name, listed, roles: form.roles });
}

function hasTensors(
  { inputs, outputs }: ListedModel,
  wanted: { readonly inputs: readonly string[]; readonly outputs: readonly string[] },
): boolean {
  const has = (listed: ListedModel["inputs"], name: string) => listed.some((each) => each.name === name);
  return wanted.inputs.every((each) => has(inputs, each)) && wanted.outputs.every((each) => has(outputs, each));
}

async function listedOrNone(
  server: RemoteServer,
  name: string,
): Promise<{ readonly listed: ListedModel } | { readonly listed: undefined; readonly error: V2CallError }> {
  try {
    return { listed: await server.listed(name) };
  } catch (error) {
    if (error instanceof V2CallError && error.fault === "unknown model" && error.code === undefined)
      return { listed: undefined, error };
    throw error;
  }
}
