// Finds which matrices of a LoRA file belong to which module of a model: W·x becomes W·x + strength·scale·up·(down·x).
// Starts from the model's keys and never takes a LoRA key apart, since names with underscores cannot be parsed back.

import { QeditError } from "../../std/errors.js";
import type { Checkpoint, StoredTensor } from "../checkpoint.js";
import { readScalars } from "../read-tensor.js";
import { configuredAlpha } from "./lora-config.js";
import { ALPHA, baseNames, moduleOf, PAIR_LAYOUTS, unsupportedForm } from "./lora-layouts.js";

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
  /** Keys of the file that were not used. */
  readonly unmatched: readonly string[];
  /** Modules of the file that these keys are of, without those that are matched. */
  readonly otherModules: number;
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
 * when nothing fits, a module of the model has an adapter of a form that qedit does not compute, a half of a pair is missing, or a shape, type
 * or alpha is wrong; keys left over are returned, see refuseUnmatched.
 */
export async function matchLora(lora: Checkpoint, model: Checkpoint): Promise<LoraMatch> {
  refuseOtherForms(lora, model);
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

  const names = new Set(candidates.flatMap(({ module }) => baseNames(module).map(({ name }) => name)));
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
    otherModules: new Set(unmatched.map(moduleOf).filter((each) => !names.has(each))).size,
  };
}

// What would be left out of a module that the model has, would make another picture than the adapter is for.
function refuseOtherForms(lora: Checkpoint, model: Checkpoint): void {
  const others = [...lora.tensors.keys()].filter((key) => unsupportedForm(key) !== undefined);
  if (others.length === 0) return;
  const modules = new Set([...model.tensors.keys()].map((key) => key.replace(/\.[^.]+$/, "")));
  const names = new Set([...modules].flatMap((module) => baseNames(module).map(({ name }) => name)));
  const found = others.filter((key) => names.has(moduleOf(key)));
  if (found.length === 0) return;
  const forms = [...new Set(found.map((key) => unsupportedForm(key)!))].join(" and ");
  const count = new Set(found.map(moduleOf)).size;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use ${lora.file}: ${count} of its ${moduleCount(lora)} modules are ${forms}, which qedit does not compute: ${someOf(found)}`,
    {
      hint: "Take the adapter as a plain LoRA: most are published as one too, or are converted by the tool that made them",
    },
  );
}

function moduleCount(lora: Checkpoint): number {
  return new Set([...lora.tensors.keys()].map(moduleOf)).size;
}

/** Lines for display: what was matched, and if anything was not, how much and of which form. */
export function matchTable(match: LoraMatch): string[] {
  const { matched, unmatched, otherModules, ranks, layout } = match;
  const pairs = [...matched.values()];
  const alphas = distinct(pairs.flatMap(({ alpha }) => (alpha === undefined ? [] : [alpha])));
  const withoutAlpha = pairs.some(({ alpha }) => alpha === undefined) ? ["none"] : [];
  const lines = [
    `matched ${matched.size}/${matched.size + otherModules} modules, rank ${ranks.join(", ")}, alpha ${[...alphas, ...withoutAlpha].join(", ")}, layout ${layout}`,
  ];
  if (unmatched.length > 0) lines.push(`${unmatched.length} keys not used: ${someOf(unmatched)}`);
  return lines;
}

/** Throws QEDIT_E_LORA when a key of the file was not used. */
export function refuseUnmatched({ file, unmatched }: LoraMatch): void {
  if (unmatched.length === 0) return;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use all of ${file}: ${unmatched.length} keys fit nothing in the model: ${someOf(unmatched)}`,
    {
      hint: "The LoRA may be made for another model, or for its text encoder too",
    },
  );
}

/** The pair of a module under the first spelling that the file has. */
function findPair(lora: Checkpoint, module: string): Candidate | undefined {
  for (const { prefix, name } of baseNames(module)) {
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
  const forms = new Set(keys.flatMap((key) => unsupportedForm(key) ?? []));
  return forms.size === 0
    ? undefined
    : `It holds ${[...forms].join(", ")}, which qedit does not compute: take it as a plain LoRA`;
}

function someOf(names: readonly string[]): string {
  if (names.length === 0) return "nothing";
  const shown = names.slice(0, SHOWN_KEYS).map((name) => `"${name}"`);
  return shown.join(", ") + (names.length > SHOWN_KEYS ? ", …" : "");
}

function distinct(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}
