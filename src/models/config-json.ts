// Reads values of the configuration that a checkpoint may carry under its metadata key `config`
// as JSON (the published config.json of the reference class).
import type { Weights } from "../checkpoint/weights.js";
import { QeditError } from "../std/errors.js";

/** The parsed `config` of a checkpoint; empty when it carries none. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** A number of the config, or `otherwise`; throws QEDIT_E_CHECKPOINT when it is something else. */
export function configNumber(config: ConfigJson, key: string, otherwise: number): number {
  const value = config[key];
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== "number" || !Number.isFinite(value)) throw refuse(key, "a number", value);
  return value;
}

/** A list of numbers of the config, or `otherwise`; throws QEDIT_E_CHECKPOINT when it is something else. */
export function configNumbers(config: ConfigJson, key: string, otherwise: readonly number[]): readonly number[] {
  const value = config[key];
  if (value === undefined || value === null) return otherwise;
  if (!Array.isArray(value) || value.some((item) => typeof item !== "number"))
    throw refuse(key, "a list of numbers", value);
  return value as number[];
}

/** A nested object of the config, or an empty one. */
export function configObject(config: ConfigJson, key: string): ConfigJson {
  const value = config[key];
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw refuse(key, "an object", value);
  return value as ConfigJson;
}

function refuse(key: string, wanted: string, found: unknown): QeditError {
  return new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot read the checkpoint's config: "${key}" is ${JSON.stringify(found)}, ${wanted} is wanted`,
  );
}

/** Where a file has its blocks, and what its config calls their number. */
export interface BlockList {
  /** The path that they are numbered below. */
  readonly list: string;
  readonly key: string;
}

/** The number of blocks of a file. Throws QEDIT_E_CHECKPOINT when one between them is missing, or when its config says another number. */
export function blockCount(w: Weights, config: ConfigJson, { list, key }: BlockList): number {
  const count = w.count(list);
  const stated = configNumber(config, key, count);
  if (stated === count) return count;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file}: its config says that it has ${stated} blocks (${key}), and it has ${count} (${list})`,
    {
      hint: "Take it from its publisher again, or another one by `qedit models pull`; the config of a pruned file must say what is left",
    },
  );
}

/** A whole number of heads; throws QEDIT_E_CHECKPOINT when `width` does not divide by `headDim`. */
export function headCount(name: string, width: number, headDim: number): number {
  if (headDim > 0 && Number.isInteger(width / headDim)) return width / headDim;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot tell the number of heads: ${name} is ${width} wide, heads of ${headDim} do not fit`,
    {
      hint: "Put the model's config.json under the safetensors metadata key `config`",
    },
  );
}
