// Holds exported models to an edit before anything is sent: what they cannot do, and the weights that they say they have.

import { V2CallError } from "../../kserve/client/v2-client.js";
import { usesNegative } from "../../sampling/guidance.js";
import type { StageName } from "../../stages/stage.js";
import { STAGES } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { ensembleName } from "./exported-facts.js";
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
  { stage, settings, models, count }: RemoteEdit & { readonly stage: StageName },
): Promise<readonly string[]> {
  refuseUnable([stage], { settings, count, facts: there.facts, isWhole: false }, there.from);
  return heldToWeights(there, await expectedWeights([stage], settings, models));
}

/** The same of a whole edit. Throws V2CallError where a server lacks the model of its number of pictures. */
export async function heldToEdit(
  there: ExportedThere,
  { settings, models, count }: RemoteEdit,
): Promise<readonly string[]> {
  refuseUnable(STAGES, { settings, count, facts: there.facts, isWhole: true }, there.from);
  const name = ensembleName({ images: count, hasCfg: usesNegative(settings["cfg"] as number) });
  if (there.name !== name) throw new V2CallError("unknown model", `"${name}", which this edit takes, is not there`);
  return heldToWeights(there, await expectedWeights(STAGES, settings, models));
}

function heldToWeights({ facts, from }: ExportedThere, expected: WeightsByRole): readonly string[] {
  const told = Object.entries(facts.weights);
  const by = <T>(of: (file: (typeof told)[number][1]) => T | undefined): Record<string, T> =>
    Object.fromEntries(told.flatMap(([role, file]) => (of(file) === undefined ? [] : [[role, of(file) as T]])));
  const names = by(({ file }) => file);
  const weights = by(({ identity }) => identity);
  const unknown = unknownWeights({ weights, names, hashes: by(({ sha256 }) => sha256) }, expected, `${from} has`);
  // A LoRA of which nothing else is known is told by its name.
  const other = unknown.find((role) => role.startsWith("lora.") && names[role] !== expected[role]!.name);
  if (other === undefined) return unknown;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use the LoRA ${expected[other]!.name} on the server at ${from}: its model was exported with ${names[other]}`,
    { hint: `Export it with this LoRA: qedit export triton ${param("lora")}` },
  );
}
