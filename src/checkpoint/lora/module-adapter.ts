// What an adapter does to one module: the kinds that qedit computes, the parts that each is made of, and the shapes that fit a weight.
import { QeditError } from "../../std/errors.js";
import type { StoredTensor } from "../checkpoint.js";
import type { PartName } from "./lora-layouts.js";
import { ROTATION_PARTS, rotationShape } from "./rotation-shapes.js";

/** How the difference that is added to a weight is written down. */
export type DifferenceKind = "lora" | "loha" | "lokr" | "full";

/** How the rotation that a weight is multiplied by is written down. */
export type RotationKind = "oft" | "boft" | "inputOft" | "inputBoft";

export type AdapterKind = DifferenceKind | RotationKind;

/** The parts of a module's adapter. */
export type AdapterParts<T> = Readonly<Partial<Record<Exclude<PartName, "alpha">, T>>>;

/** How a rotation is made of the numbers of its file. */
export interface RotationForm {
  /** The length that the skew matrices of a module have together, at most; undefined: any. */
  readonly limit?: number;
  /** The length that the skew matrix of each block has, at most, times the square root of their number (COFT); undefined: any. */
  readonly blockLimit?: number;
  /** Terms of the series that stands for an inverse (Cayley-Neumann); undefined: the inverse itself. */
  readonly terms?: number;
}

/**
 * What is done to a module: its weight W [out, in] becomes `W + strength · scale · Δ`, with Δ by its kind
 * - lora: `up · down`, and `up_bias` is added to the outputs as Δ is
 * - loha: `(hada_w1_a · hada_w1_b) ∘ (hada_w2_a · hada_w2_b)`
 * - lokr: the Kronecker product of `lokr_w1` and `lokr_w2`, each whole or as the product of its `_a` and `_b`
 * - full: `diff`
 *
 * With `magnitude`, one number for each output [out] or [out, 1], or for each input [1, in], the rows or columns of W + scale · Δ get that length
 * (DoRA), and strength goes from W to that. `diff_b` [out] is added to the bias.
 *
 * Rotations turn what the adapters before them made of W, by blocks along the diagonal that are orthogonal (src/models/rotations.ts)
 * - oft: outputs, by `oft_blocks` [n, b, b] and, if there is one, times `rescale` [out, 1]
 * - boft: outputs, by `boft_blocks` [stages, n, b, b], each stage over outputs further apart, and `rescale`
 * - inputOft: inputs, by `oft_R` [n or 1, b · (b - 1) / 2]
 * - inputBoft: inputs, by `boft_R` [1, n, b, b], and outputs times `boft_s` [out, 1]
 */
export interface ModuleAdapter<T = StoredTensor> {
  /** undefined where only the bias changes. */
  readonly kind: AdapterKind | undefined;
  readonly parts: AdapterParts<T>;
  /** alpha / rank; 1 when the file states no alpha, and where nothing has a rank. */
  readonly scale: number;
  /** Of rotations. */
  readonly rotation?: RotationForm;
}

/** The stored tensors of a module's adapter. */
export function storedParts({ parts }: ModuleAdapter): readonly StoredTensor[] {
  return Object.values(parts);
}

/** The name of what an adapter does to a module: `LoRA`, `DoRA`, `LoKr with DoRA`, `full differences`. */
export function kindName({ kind, parts }: Pick<ModuleAdapter, "kind" | "parts">): string {
  const name = kind === undefined ? "bias differences" : NAMES[kind];
  if (parts.magnitude !== undefined) return kind === "lora" ? "DoRA" : `${name} with DoRA`;
  return parts.up_bias === undefined ? name : `${name} with biases`;
}

const NAMES: Readonly<Record<AdapterKind, string>> = {
  lora: "LoRA",
  loha: "LoHa",
  lokr: "LoKr",
  full: "full differences",
  oft: "OFT",
  boft: "BOFT",
  inputOft: "OFT of inputs",
  inputBoft: "BOFT of inputs",
};

type Name = keyof AdapterParts<unknown>;

/** Whether a kind turns a weight instead of adding to it. */
export function isRotationKind(kind: AdapterKind | undefined): kind is RotationKind {
  return kind === "oft" || kind === "boft" || kind === "inputOft" || kind === "inputBoft";
}

/** The kinds that parts of a module are of. */
export function kindsOf(parts: FoundParts): readonly AdapterKind[] {
  return (Object.keys(PARTS) as AdapterKind[]).filter((kind) => PARTS[kind].flat(2).some((name) => parts.has(name)));
}

/** The parts of each kind; of each group the first list that the file has some of has to be whole. */
const PARTS: Readonly<Record<AdapterKind, readonly (readonly (readonly Name[])[])[]>> = {
  lora: [[["up", "down"]]],
  loha: [[["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]]],
  lokr: [
    [["lokr_w1"], ["lokr_w1_a", "lokr_w1_b"]],
    [["lokr_w2"], ["lokr_w2_a", "lokr_w2_b"]],
  ],
  full: [[["diff"]]],
  oft: [[["oft_blocks"]]],
  boft: [[["boft_blocks"]]],
  inputOft: [[["oft_R"]]],
  inputBoft: [[["boft_R", "boft_s"]]],
};

/** A part with the key that it has in its file. */
export interface FoundPart {
  readonly key: string;
  readonly stored: StoredTensor;
}

/** The parts of a module as found in a file. */
export type FoundParts = ReadonlyMap<PartName, FoundPart>;

/**
 * The kind of a module's parts; undefined when none of them changes the weight. Throws QEDIT_E_LORA when a part is missing, or when there are two kinds,
 * or two forms of one part.
 */
export function kindOf(file: string, parts: FoundParts): AdapterKind | undefined {
  const [kind, another] = kindsOf(parts);
  if (kind === undefined) {
    const needing = (["magnitude", "up_bias", "rescale"] as const).find((name) => parts.has(name));
    if (needing !== undefined) throw missing(file, "the matrices", parts.get(needing)!.key);
    return undefined;
  }
  if (another !== undefined) {
    const keys = [kind, another].map(
      (each) => `"${parts.get(PARTS[each].flat(2).find((name) => parts.has(name))!)!.key}"`,
    );
    throw refuse(file, `${keys.join(" and ")} are two adapters of one module, ${NAMES[kind]} and ${NAMES[another]}`);
  }
  for (const forms of PARTS[kind]) {
    const given = forms.filter((form) => form.some((name) => parts.has(name)));
    if (given.length > 1) {
      const keys = given.map(([name]) => `"${parts.get(name!)?.key ?? name}"`);
      throw refuse(file, `${keys.join(" and ")} are two forms of one factor`);
    }
    const form = given[0] ?? forms[0]!;
    const lacking = form.find((name) => !parts.has(name));
    if (lacking === undefined) continue;
    const [beside] = [...parts].filter(([name]) => name !== "alpha");
    throw missing(file, lackingKey(lacking, parts), beside![1].key);
  }
  if (parts.has("rescale") && kind !== "oft" && kind !== "boft")
    throw refuse(file, `"${parts.get("rescale")!.key}" is of no OFT`);
  if (parts.has("magnitude") && isRotationKind(kind))
    throw refuse(
      file,
      `"${parts.get("magnitude")!.key}" is beside ${NAMES[kind]}, which qedit does not compute together`,
    );
  if (parts.has("up_bias") && kind !== "lora") throw refuse(file, `"${parts.get("up_bias")!.key}" is of no LoRA`);
  if (parts.has("up_bias") && parts.has("magnitude"))
    throw refuse(
      file,
      `"${parts.get("up_bias")!.key}" is beside "${parts.get("magnitude")!.key}", which PEFT does not make`,
    );
  return kind;
}

// The key that a missing part would have beside its other half.
function lackingKey(lacking: Name, parts: FoundParts): string {
  const other = lacking === "up" ? "down" : "up";
  const key = parts.get(other)?.key;
  if (lacking !== "up" && lacking !== "down") return `"${lacking}"`;
  const [from, to] = lacking === "up" ? [/down|A(?=\.|$)/g, "up"] : [/up|B(?=\.|$)/g, "down"];
  const index = key?.search(/[._]lora/) ?? -1;
  if (key === undefined || index < 0) return `"${lacking}"`;
  const ending = key.slice(index).replace(from, (found) => (found === "A" ? "B" : found === "B" ? "A" : to));
  return `"${key.slice(0, index)}${ending}"`;
}

function missing(file: string, lacking: string, found: string): QeditError {
  return new QeditError("QEDIT_E_LORA", `Cannot find ${lacking} beside "${found}" in ${file}`, {
    hint: "The file lacks a part of this module: take it from its publisher again",
  });
}

function refuse(file: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_LORA", `Cannot use ${file}: ${reason}`, {
    hint: "Take the adapter from its publisher again, as one of one kind",
  });
}

const FLOAT_TYPES = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64"];

/** Ranks above this are of no adapter: the widest layer of the published transformers has 12288 inputs. */
const MAX_RANK = 16384;

/** A length of a wanted shape: a number, or the rank, or a part of a Kronecker product with its whole. */
type Wanted = number | "rank" | { readonly divides: number };

/** Throws QEDIT_E_LORA unless all parts are floats of shapes that fit the shape of a weight, [out, in] or [width] of a norm. */
export function checkParts(file: string, parts: FoundParts, weight: readonly number[]): void {
  const [out = 0, input = 0] = weight;
  const check = (name: Name, ...shapes: readonly (readonly Wanted[])[]) => {
    const part = parts.get(name);
    if (part === undefined) return;
    const { dtype, shape } = part.stored;
    if (FLOAT_TYPES.includes(dtype) && shapes.some((wanted) => fits(shape, wanted, rankOf(name, parts)))) return;
    const text = shapes.map((wanted) => `[${wanted.map(lengthText).join(", ")}]`).join(" or ");
    throw wrongShape(file, part, `floats ${text}`);
  };
  check("down", ["rank", input]);
  check("up", [out, "rank"]);
  for (const each of ["hada_w1", "hada_w2"] as const) {
    check(`${each}_b`, ["rank", input]);
    check(`${each}_a`, [out, "rank"]);
  }
  check("lokr_w1", [{ divides: out }, { divides: input }]);
  check("lokr_w1_b", ["rank", { divides: input }]);
  check("lokr_w1_a", [{ divides: out }, "rank"]);
  const rows = (parts.get("lokr_w1") ?? parts.get("lokr_w1_a"))?.stored.shape[0] ?? 1;
  const columns = (parts.get("lokr_w1") ?? parts.get("lokr_w1_b"))?.stored.shape[1] ?? 1;
  check("lokr_w2", [out / rows, input / columns]);
  check("lokr_w2_b", ["rank", input / columns]);
  check("lokr_w2_a", [out / rows, "rank"]);
  check("diff", weight);
  for (const bias of ["up_bias", "diff_b"] as const) check(bias, [out]);
  check("magnitude", [out], [out, 1], [1, input]);
  for (const scale of ["rescale", "boft_s"] as const) check(scale, [out, 1]);
  for (const [name, part] of parts) {
    const wanted = rotationShape(name, part.stored.shape, { out, input });
    if (wanted !== undefined) throw wrongShape(file, part, wanted);
    if (ROTATION_PARTS.includes(name) && !FLOAT_TYPES.includes(part.stored.dtype))
      throw wrongShape(file, part, "floats");
  }
}

function wrongShape(file: string, { key, stored: { dtype, shape } }: FoundPart, wanted: string): QeditError {
  return new QeditError(
    "QEDIT_E_LORA",
    `Cannot use "${key}" of ${file}: wanted ${wanted}, found ${dtype} [${shape.join(", ")}]`,
    { hint: "The adapter may be made for another model" },
  );
}

/** The rank of the factors that a part belongs to; undefined where it has none. */
function rankOf(name: Name, parts: FoundParts): number | undefined {
  const side = name === "up" ? "down" : (name.replace(/_a$/, "_b") as Name);
  return parts.get(side)?.stored.shape[0];
}

/** The rank by which alpha is divided, as ComfyUI does: of a LoKr that of its last factor that has one. */
export function dividingRank(parts: FoundParts): number | undefined {
  const names = ["down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"] as const;
  return parts.get(names.find((name) => parts.has(name)) ?? "down")?.stored.shape[0];
}

function fits(shape: readonly number[], wanted: readonly Wanted[], rank: number | undefined): boolean {
  return (
    shape.length === wanted.length &&
    wanted.every((each, axis) => {
      const length = shape[axis]!;
      if (each === "rank") return length === rank && length > 0 && length <= MAX_RANK;
      if (typeof each === "number") return length === each;
      return length > 0 && each.divides % length === 0;
    })
  );
}

function lengthText(wanted: Wanted): string {
  return typeof wanted === "object" ? `a divisor of ${wanted.divides}` : String(wanted);
}
