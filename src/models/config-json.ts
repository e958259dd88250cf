// Reads values of the configuration that a checkpoint may carry under its metadata key `config`
// as JSON (the published config.json of the reference class).
import type { Weights } from "../checkpoint/weights.js";
import { QeditError } from "../std/errors.js";
import { shown } from "../std/foreign-text.js";

/** The parsed `config` of a checkpoint; empty when it carries none. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** The hint where a config is wrong, or missing. */
export const OWN_CONFIG = "Put the model's own config.json beside it, or under the safetensors metadata key `config`";

/** A number of the config, or `otherwise`; throws QEDIT_E_CHECKPOINT when it is something else. */
export function configNumber(config: ConfigJson, key: string, otherwise: number): number {
  const value = config[key];
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== "number" || !Number.isFinite(value)) throw refuse(key, "a number", value);
  return value;
}

/** A number above 0 of the config, or `otherwise`; throws QEDIT_E_CHECKPOINT when it is something else. */
export function configPositive(config: ConfigJson, key: string, otherwise: number): number {
  const value = configNumber(config, key, otherwise);
  if (value > 0) return value;
  throw refuse(key, "a number above 0", value);
}

/** A number of the config of at least `least`, or `otherwise`; throws QEDIT_E_CHECKPOINT when it is something else. */
export function configAtLeast(
  config: ConfigJson,
  key: string,
  { least, otherwise }: { readonly least: number; readonly otherwise: number },
): number {
  const value = configNumber(config, key, otherwise);
  if (value >= least) return value;
  throw refuse(key, `at least ${least}`, value);
}

/** The heads that `width` numbers make: as many as the config states, else of `headDim` each. Throws QEDIT_E_CHECKPOINT when `width` does not divide by them. */
export function statedHeads(
  config: ConfigJson,
  key: string,
  { name, width, headDim }: { readonly name: string; readonly width: number; readonly headDim: number },
): number {
  const stated = config[key] ?? undefined;
  if (stated === undefined) return headCount(name, width, headDim);
  const heads = configNumber(config, key, 0);
  if (heads > 0 && Number.isInteger(heads) && width % heads === 0) return heads;
  throw refuse(key, `a number of heads that ${width} divides by`, stated);
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
    `Cannot read the checkpoint's config: "${key}" is ${asText(found)}, ${wanted} is wanted`,
  );
}

/** Throws QEDIT_E_CHECKPOINT when the config says another number than the tensors of its file: it is then of another model, and so is what no tensor tells. */
export function refuseOtherSizes(w: Weights, config: ConfigJson, sizes: Readonly<Record<string, number>>): void {
  for (const [key, size] of Object.entries(sizes)) {
    const stated = configNumber(config, key, size);
    if (stated === size) continue;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file}: its config says ${key} ${stated}, and its tensors have ${size}: it is the config of another model`,
      { hint: OWN_CONFIG },
    );
  }
}

/** Throws QEDIT_E_CHECKPOINT when the config asks for a way of computing that is none of those named, which are the ones computed. */
export function refuseOtherWays(
  w: Weights,
  config: ConfigJson,
  ways: Readonly<Record<string, readonly (string | boolean)[]>>,
): void {
  for (const [key, computed] of Object.entries(ways)) {
    const stated = config[key];
    if (stated === undefined || stated === null || computed.some((way) => way === stated)) continue;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file}: its config asks for ${key} ${asText(stated)}, and only ${computed.map(asText).join(" or ")} is computed`,
      { hint: OWN_CONFIG },
    );
  }
}

function asText(value: unknown): string {
  return shown(JSON.stringify(value));
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
