// Finds which matrices of a LoRA file belong to which module of a model: W·x becomes W·x + strength·scale·up·(down·x).
// Starts from the model's keys and never takes a LoRA key apart, since names with underscores cannot be parsed back.

import { QeditError } from "../../std/errors.js";
import type { Checkpoint, StoredTensor } from "../checkpoint.js";
import { readScalars } from "../read-tensor.js";
import { configuredAlpha } from "./lora-config.js";
import { ALPHA, baseNames, moduleOf, PAIR_LAYOUTS, UNSUPPORTED, unsupportedForm } from "./lora-layouts.js";

/** The low-rank matrices of one module. */
export interface LoraPair {
  /** [out, rank] */
  readonly up: StoredTensor;
  /** [rank, in] */
  readonly down: StoredTensor;
  /** alpha / rank; 1 when the file states no alpha. */
  readonly scale: number;
}

/** A pair of a file, with the alpha that the file or its configuration states. */
export interface MatchedPair extends LoraPair {
  readonly alpha: number | undefined;
}

/** What of a LoRA file fits a model. */
export interface LoraMatch {
  /** As the user named it. */
  readonly file: string;
  /** For display: the spelling of the keys, such as `kohya, prefix lora_unet_`. */
  readonly layout: string;
  /** The different ranks, ascending. */
  readonly ranks: readonly number[];
  /** By the model's module names, such as `transformer_blocks.0.attn.to_q`. */
  readonly matched: ReadonlyMap<string, MatchedPair>;
  /** Keys of the file that were not used, those of unsupported forms among them. */
  readonly unmatched: readonly string[];
}

/** How many names an error shows of each side. */
const SHOWN_KEYS = 3;

const FLOAT_TYPES = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64"];

/** A pair as found by name, before its alpha was read. */
interface Candidate {
  readonly module: string;
  readonly layout: string;
  readonly up: StoredTensor;
  readonly down: StoredTensor;
  readonly alpha: StoredTensor | undefined;
  readonly keys: readonly string[];
}

/**
 * Matches a LoRA file to the matrices `<module>.weight` [out, in] of a model whose prefix was taken off (stripPrefix). Throws QEDIT_E_LORA
 * when nothing fits, a half of a pair is missing, or a shape, type or alpha is wrong; keys left over are returned, see refuseUnmatched.
 */
export async function matchLora(lora: Checkpoint, model: Checkpoint): Promise<LoraMatch> {
  const candidates: Candidate[] = [];
  for (const [key, weight] of model.tensors) {
    if (!key.endsWith(".weight") || weight.shape.length !== 2) continue;
    const module = key.slice(0, -".weight".length);
    const candidate = findPair(lora, module);
    if (candidate === undefined) continue;
    checkPair(lora.file, candidate, weight);
    candidates.push(candidate);
  }
  const used = new Set(candidates.flatMap((candidate) => candidate.keys));
  const unmatched = [...lora.tensors.keys()].filter((key) => !used.has(key));
  if (candidates.length === 0) throw nothingFits(lora, model);

  const alphas = await readAlphas(lora.file, candidates);
  const configured = configuredAlpha(lora);
  return {
    file: lora.file,
    layout: [...new Set(candidates.map((candidate) => candidate.layout))].join(" and "),
    ranks: distinct(candidates.map(({ down }) => rankOf(down))),
    matched: new Map(
      candidates.map((candidate) => [
        candidate.module,
        scaledPair(candidate, alphas.get(candidate) ?? configured(candidate.module, rankOf(candidate.down))),
      ]),
    ),
    unmatched,
  };
}

/** Lines for display: what was matched, and if anything was not, how much and of which form. */
export function matchTable(match: LoraMatch): string[] {
  const { matched, unmatched, ranks, layout } = match;
  const left = new Set(unmatched.map(moduleOf));
  const pairs = [...matched.values()];
  const alphas = distinct(pairs.flatMap(({ alpha }) => (alpha === undefined ? [] : [alpha])));
  const withoutAlpha = pairs.some(({ alpha }) => alpha === undefined) ? ["none"] : [];
  const lines = [
    `matched ${matched.size}/${matched.size + left.size} modules, rank ${ranks.join(", ")}, alpha ${[...alphas, ...withoutAlpha].join(", ")}, layout ${layout}`,
  ];
  if (unmatched.length > 0) lines.push(`${unmatched.length} keys not used: ${someOf(unmatched)}`);
  for (const [form, count] of unsupportedForms(unmatched))
    lines.push(`${count} of them are ${form}, which is not supported`);
  return lines;
}

/** Throws QEDIT_E_LORA when a key of the file was not used. */
export function refuseUnmatched({ file, unmatched }: LoraMatch): void {
  if (unmatched.length === 0) return;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use all of ${file}: ${unmatched.length} keys fit nothing in the model: ${someOf(unmatched)}`,
    {
      hint: formHint([...unmatched]) ?? "The LoRA may be made for another model, or for its text encoder too",
    },
  );
}

/** The pair of a module under the first spelling that the file has; none when the module has a form that changes what the pair means. */
function findPair(lora: Checkpoint, module: string): Candidate | undefined {
  for (const { prefix, name } of baseNames(module)) {
    if (UNSUPPORTED.some(({ suffix, changesPair }) => changesPair && lora.tensors.has(name + suffix))) return undefined;
    for (const pair of PAIR_LAYOUTS) {
      const upKey = name + pair.up;
      const downKey = name + pair.down;
      const up = lora.tensors.get(upKey);
      const down = lora.tensors.get(downKey);
      if (up === undefined && down === undefined) continue;
      if (up === undefined || down === undefined) {
        const [missing, found] = up === undefined ? [upKey, downKey] : [downKey, upKey];
        throw new QeditError("QEDIT_E_LORA", `Cannot find "${missing}" beside "${found}" in ${lora.file}`, {
          hint: "The file lacks a half of this module: take it from its publisher again",
        });
      }
      const alpha = lora.tensors.get(name + ALPHA);
      const keys = [upKey, downKey, ...(alpha === undefined ? [] : [name + ALPHA])];
      return {
        module,
        layout: `${pair.name}, ${prefix === "" ? "no prefix" : `prefix ${prefix}`}`,
        up,
        down,
        alpha,
        keys,
      };
    }
  }
  return undefined;
}

/** Throws unless up [out, rank] and down [rank, in] are floats that fit the weight [out, in]. */
function checkPair(file: string, { up, down, alpha, keys }: Candidate, weight: StoredTensor): void {
  const [out = 0, input = 0] = weight.shape;
  const [upKey, downKey, alphaKey] = keys;
  const refuse = (key: string | undefined, wanted: string, found: StoredTensor) =>
    new QeditError(
      "QEDIT_E_LORA",
      `Cannot use "${key}" of ${file}: wanted ${wanted}, found ${found.dtype} [${found.shape.join(", ")}]`,
      {
        hint: "The LoRA may be made for another model",
      },
    );
  const rank = rankOf(down);
  if (down.shape.length !== 2 || rank === 0 || down.shape[1] !== input || !FLOAT_TYPES.includes(down.dtype)) {
    throw refuse(downKey, `floats [rank, ${input}]`, down);
  }
  if (up.shape.length !== 2 || up.shape[0] !== out || up.shape[1] !== rank || !FLOAT_TYPES.includes(up.dtype)) {
    throw refuse(upKey, `floats [${out}, ${rank}]`, up);
  }
  if (alpha?.shape.some((dim) => dim !== 1)) throw refuse(alphaKey, "one number", alpha);
}

async function readAlphas(file: string, candidates: readonly Candidate[]): Promise<ReadonlyMap<Candidate, number>> {
  const having = candidates.flatMap((candidate) =>
    candidate.alpha === undefined ? [] : [{ candidate, stored: candidate.alpha }],
  );
  const values = await readScalars(having.map(({ stored }) => stored));
  return new Map(
    having.map(({ candidate }, i) => {
      const value = values[i] ?? NaN;
      if (!Number.isFinite(value))
        throw new QeditError(
          "QEDIT_E_LORA",
          `Cannot use "${candidate.keys[2]}" of ${file}: wanted a number, found ${value}`,
        );
      return [candidate, value];
    }),
  );
}

function scaledPair({ up, down }: Candidate, alpha: number | undefined): MatchedPair {
  return { up, down, alpha, scale: alpha === undefined ? 1 : alpha / rankOf(down) };
}

function rankOf(down: StoredTensor): number {
  return down.shape[0] ?? 0;
}

function nothingFits(lora: Checkpoint, model: Checkpoint): QeditError {
  const names = [...lora.tensors.keys()];
  const wanted = [...model.tensors.keys()].filter((key) => key.endsWith(".weight"));
  return new QeditError(
    "QEDIT_E_LORA",
    `Cannot match ${lora.file} to ${model.file}: it holds ${someOf(names)}, the model ${someOf(wanted)}`,
    {
      hint: formHint(names) ?? "The LoRA may be made for another model",
    },
  );
}

function formHint(keys: readonly string[]): string | undefined {
  const forms = [...unsupportedForms(keys).keys()];
  return forms.length === 0
    ? undefined
    : `It holds ${forms.join(", ")}, which is not supported: find it as a plain LoRA`;
}

/** Number of keys by unsupported form. */
function unsupportedForms(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) {
    const form = unsupportedForm(key);
    if (form !== undefined) counts.set(form, (counts.get(form) ?? 0) + 1);
  }
  return counts;
}

function someOf(names: readonly string[]): string {
  if (names.length === 0) return "nothing";
  const shown = names.slice(0, SHOWN_KEYS).map((name) => `"${name}"`);
  return shown.join(", ") + (names.length > SHOWN_KEYS ? ", …" : "");
}

function distinct(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}
