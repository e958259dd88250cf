// How the rotations of a file are made of its numbers: PEFT says it in the configuration (OFTConfig, PEFT 0.21), LyCORIS and kohya by alpha.
import { QeditError } from "../../std/errors.js";
import type { Checkpoint } from "../checkpoint.js";
import { configurationOf } from "./lora-config.js";
import type { RotationForm, RotationKind } from "./module-adapter.js";

/** Terms of the series where a file says nothing: those of OneTrainer, whose files have no configuration, and of PEFT. */
const USUAL_TERMS = 5;

/** More terms are of no adapter. */
const MAX_TERMS = 100;

/** PEFT changed the series in this release, from which on a configuration has its version. */
const SERIES_CHANGED = "0.18";

/** Reads how rotations are made. Throws QEDIT_E_LORA for those of releases of PEFT that made them otherwise. */
export function rotationForms(
  lora: Checkpoint,
): (kind: RotationKind, of: { alpha: number | undefined; out: number }) => RotationForm {
  return (kind, { alpha, out }) => {
    // LyCORIS 4.1 modules/diag_oft.py and kohya's networks/oft.py; ComfyUI does not multiply by the outputs.
    if (kind === "oft" || kind === "boft") return alpha !== undefined && alpha > 0 ? { limit: alpha * out } : {};
    return kind === "inputOft" ? inputForm(lora) : {};
  };
}

function inputForm(lora: Checkpoint): RotationForm {
  const value = configurationOf(lora);
  if (value === undefined) return { terms: USUAL_TERMS };
  const isSeries = value("use_cayley_neumann");
  if (typeof isSeries !== "boolean" || (isSeries && value("peft_version") === undefined))
    throw refuse(lora.file, `its rotations are of PEFT before ${SERIES_CHANGED}, which made them otherwise`);
  const terms = isSeries
    ? wholeNumber(lora.file, "num_cayley_neumann_terms", value("num_cayley_neumann_terms"))
    : undefined;
  const epsilon = value("coft") === true ? value("eps") : undefined;
  if (epsilon !== undefined && !(typeof epsilon === "number" && epsilon > 0 && Number.isFinite(epsilon)))
    throw refuse(lora.file, `its configuration has eps ${JSON.stringify(epsilon)}, a number above 0 is wanted`);
  return { ...(terms !== undefined && { terms }), ...(epsilon !== undefined && { blockLimit: epsilon as number }) };
}

function wholeNumber(file: string, name: string, value: unknown): number {
  if (value === undefined) return USUAL_TERMS;
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= MAX_TERMS) return value;
  throw refuse(
    file,
    `its configuration has ${name} ${JSON.stringify(value)}, a whole number from 1 to ${MAX_TERMS} is wanted`,
  );
}

function refuse(file: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_LORA", `Cannot use ${file}: ${reason}`, {
    hint: "Save it again by PEFT 0.18 or later",
  });
}
