// Holds exported models to an edit before anything is sent: what they cannot do, and the weights that they say they have.

import { publishedModel } from "../../catalog/published/models.js";
import { V2CallError } from "../../kserve/client/v2-client.js";
import { usesNegative } from "../../sampling/guidance.js";
import type { StageName } from "../../stages/stage.js";
import { STAGES } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { type ExportedFacts, ensembleName } from "./exported-facts.js";
import { exportedFamily } from "./exported-families.js";
import { refuseUnable } from "./exported-limits.js";
import type { ExportedThere } from "./exported-there.js";
import { expectedWeights, type OpenWeights, unknownWeights, type WeightsByRole } from "./remote-weights.js";
import type { RemoteSettings } from "./stage-tensors.js";

/** An edit about to be made. */
export interface RemoteEdit {
  readonly settings: RemoteSettings;
  /** Number of pictures. */
  readonly count: number;
  readonly models: OpenWeights;
}

/** The roles of a stage whose weights could not be verified. Throws QEDIT_E_USAGE for what it cannot do, QEDIT_E_CHECKPOINT and QEDIT_E_LORA for other weights. */
export async function heldToStage(
  there: ExportedThere,
  { stage, ...edit }: RemoteEdit & { readonly stage: StageName },
): Promise<readonly string[]> {
  return held(there, [stage], { ...edit, isWhole: false });
}

/** The same of a whole edit. Throws V2CallError where a server lacks the model of its number of pictures. */
export async function heldToEdit(there: ExportedThere, edit: RemoteEdit): Promise<readonly string[]> {
  const unknown = await held(there, STAGES, { ...edit, isWhole: true });
  const name = ensembleName({ images: edit.count, hasCfg: usesNegative(edit.settings["cfg"] as number) });
  if (there.name === name) return unknown;
  throw new V2CallError("unknown model", `"${name}", which this edit takes, is not there`);
}

// Another model than the wanted one is said first, then what it cannot do.
async function held(
  { facts, from }: ExportedThere,
  stages: readonly StageName[],
  { settings, models, count, isWhole }: RemoteEdit & { readonly isWhole: boolean },
): Promise<readonly string[]> {
  await refuseOtherFamily(facts, settings, from);
  const expected = Object.entries(await expectedWeights(stages, settings, models));
  const isLora = ([role]: readonly [string, unknown]) => role.startsWith("lora.");
  const files = heldToWeights(facts, Object.fromEntries(expected.filter((each) => !isLora(each))), from);
  refuseUnable(stages, { settings, count, facts, isWhole }, from);
  return [...files, ...heldToWeights(facts, Object.fromEntries(expected.filter(isLora)), from)];
}

// Weights that nobody knows could be of another family, whose pictures would be other ones. Of files that are named, the family is in the files.
async function refuseOtherFamily(
  { family }: ExportedFacts,
  { model, transformer, checkpoint }: RemoteSettings,
  from: string,
): Promise<void> {
  if (transformer !== undefined || checkpoint !== undefined) return;
  const { name, family: wanted } = await publishedModel(model);
  const found = exportedFamily(family).transformer;
  if (found === wanted) return;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use the server at ${from}: its model is of ${found}, ${name} is of ${wanted}`,
    { hint: `Name the model that it has: ${param("model", "NAME")}, or another server` },
  );
}

function heldToWeights({ weights: told }: ExportedFacts, expected: WeightsByRole, from: string): readonly string[] {
  const by = (key: "file" | "identity" | "sha256"): Record<string, string> =>
    Object.fromEntries(
      Object.entries(told).flatMap(([role, file]) => (file[key] === undefined ? [] : [[role, file[key]]])),
    );
  const names = by("file");
  const unknown = unknownWeights({ weights: by("identity"), names, hashes: by("sha256") }, expected, `${from} has`);
  // A LoRA of which nothing else is known is told by its name.
  const other = unknown.find((role) => role.startsWith("lora.") && names[role] !== expected[role]!.name);
  if (other === undefined)
    return unknown.map((role) => (names[role] === expected[role]!.name ? role : `${role} (${names[role]})`));
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use the LoRA ${expected[other]!.name} on the server at ${from}: its model was exported with ${names[other]}`,
    { hint: `Export it with this LoRA: qedit export triton ${param("lora")}` },
  );
}
