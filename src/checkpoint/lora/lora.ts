// Finds which parts of an adapter file belong to which module of a model, and what they do to it (see ModuleAdapter).
// Starts from the model's names: those with underscores cannot be parsed back.

import { QeditError } from "../../std/errors.js";
import type { Checkpoint, StoredTensor } from "../checkpoint.js";
import { readScalars } from "../read-tensor.js";
import { adapterParts, distinct, type FileModule, modulesOf } from "./file-modules.js";
import { configuredScale, refuseMissingMagnitudes } from "./lora-config.js";
import {
  baseNames,
  FUSED_PROJECTION,
  moduleOf,
  otherwiseJoined,
  readAdapterKey,
  unsupportedForm,
} from "./lora-layouts.js";
import {
  type AdapterKind,
  checkParts,
  dividingRank,
  type FoundParts,
  isRotationKind,
  kindName,
  kindOf,
  type ModuleAdapter,
} from "./module-adapter.js";
import { rotationForms } from "./rotation-config.js";

/** A module's adapter, with the alpha that the file or its configuration states. */
export interface MatchedAdapter extends ModuleAdapter {
  readonly alpha: number | undefined;
  /** undefined where nothing has a rank. */
  readonly rank: number | undefined;
}

/** What of a LoRA file fits a model. */
export interface LoraMatch {
  /** As the user named it. */
  readonly file: string;
  /** For display: the kinds that are no plain LoRA. */
  readonly kinds: readonly string[];
  /** For display: the spelling of the keys, such as `kohya, prefix lora_unet_`. */
  readonly layout: string;
  /** The different ranks, ascending. */
  readonly ranks: readonly number[];
  /** By the model's module names, such as `transformer_blocks.0.attn.to_q`. */
  readonly matched: ReadonlyMap<string, MatchedAdapter>;
  /** Keys of the file that were not used. */
  readonly unmatched: readonly string[];
  /** Modules of the file that these keys are of, without those that are matched. */
  readonly otherModules: number;
}

/** How many names an error shows of each side. */
const SHOWN_KEYS = 3;

/** The adapter of a module as found by name, before its alpha was read. */
interface Candidate {
  readonly module: string;
  /** What the file calls the module. */
  readonly name: string;
  readonly layout: string;
  readonly kind: AdapterKind | undefined;
  readonly parts: FoundParts;
  readonly adapterNames: ReadonlySet<string>;
}

/**
 * Matches an adapter file to the modules of a model whose prefix was taken off (stripPrefix): those with a weight [out, in], and norms with a
 * weight [width]. Throws QEDIT_E_LORA when nothing fits, a module of the model has an adapter of a form that qedit does not compute, or two of them, a
 * part is missing, or a shape, type or alpha is wrong; keys left over are returned, see refuseUnmatched.
 */
export async function matchLora(lora: Checkpoint, model: Checkpoint): Promise<LoraMatch> {
  refuseOtherForms(lora, model);
  const files = modulesOf(lora);
  refuseOtherwiseJoined(lora.file, files, model);
  const candidates: Candidate[] = [];
  for (const [key, weight] of model.tensors) {
    if (!key.endsWith(".weight") || weight.shape.length > 2) continue;
    const module = key.slice(0, -".weight".length);
    const candidate = findAdapter(lora.file, files, {
      module,
      isNorm: weight.shape.length === 1,
      hasBias: model.tensors.has(`${module}.bias`),
    });
    if (candidate === undefined) continue;
    checkParts(lora.file, candidate.parts, weight.shape);
    candidates.push(candidate);
  }
  const used = new Set(candidates.flatMap(({ parts }) => [...parts.values()].map(({ key }) => key)));
  const unmatched = [...lora.tensors.keys()].filter((key) => !used.has(key));
  if (candidates.length === 0) throw nothingFits(lora, model);
  refuseUnknownParts(lora.file, candidates, unmatched);
  const adapterNames = new Set(candidates.flatMap((each) => [...each.adapterNames]));
  if (adapterNames.size > 1) throw severalAdapters(lora.file, [...adapterNames].sort().join(", "));

  const names = new Set(candidates.flatMap(({ module }) => baseNames(module).map(({ name }) => name)));
  const alphas = await readAlphas(lora.file, candidates);
  const [configured, rotationOf] = [configuredScale(lora), rotationForms(lora)];
  const matched = new Map(
    candidates.map((candidate) => {
      const alpha = alphas.get(candidate);
      const own = adapterOf(candidate, { alpha, configured });
      const [out] = model.tensors.get(`${candidate.module}.weight`)!.shape as [number];
      const rotation = isRotationKind(own.kind) ? rotationOf(own.kind, { alpha, out }) : undefined;
      return [candidate.module, { ...own, ...(rotation && { rotation }) }];
    }),
  );
  refuseMissingMagnitudes(lora, matched);
  return {
    file: lora.file,
    kinds: [...new Set([...matched.values()].map(kindName))].filter((name) => name !== "LoRA"),
    layout: [...new Set(candidates.map((candidate) => candidate.layout))].join(" and "),
    ranks: distinct([...matched.values()].flatMap(({ rank }) => rank ?? [])),
    matched,
    unmatched,
    otherModules: new Set(unmatched.map(moduleOf).filter((each) => !names.has(each))).size,
  };
}

// What would be left out of a module that the model has, would make another picture than the adapter is for.
function refuseOtherForms(lora: Checkpoint, model: Checkpoint): void {
  const modules = new Set([...model.tensors.keys()].map((key) => key.replace(/\.[^.]+$/, "")));
  const names = new Set([...modules].flatMap((module) => baseNames(module).map(({ name }) => name)));
  const found = [...lora.tensors.keys()].flatMap((key) => {
    const [own, form] = [key.replace(REPLACED, ""), unsupportedForm(key)];
    if (form === undefined)
      return own !== key && names.has(own) ? [{ key, module: own, form: "replaced weights" }] : [];
    const module = moduleOf(key);
    return names.has(module.replace(FUSED_PROJECTION, "$1to_q")) ? [{ key, module, form }] : [];
  });
  if (found.length === 0) return;
  const forms = [...new Set(found.map(({ form }) => form))].join(" and ");
  const count = new Set(found.map(({ module }) => module)).size;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use ${lora.file}: ${count} of its ${moduleCount(lora)} modules are ${forms}, which qedit does not compute: ${someOf(found.map(({ key }) => key))}`,
    {
      hint: "Take the adapter as a plain LoRA: most are published as one too, or are converted by the tool that made them",
    },
  );
}

/** The ending of weights that take the place of the model's: PEFT's `modules_to_save`, and biases that were trained. */
const REPLACED = /(\.base_layer)?\.(weight|bias)$/;

// An adapter of one matrix where the model has two, or the other way round: left out, the picture would be another than the adapter is for.
function refuseOtherwiseJoined(
  file: string,
  files: ReadonlyMap<string, FileModule>,
  { tensors, file: modelFile }: Checkpoint,
): void {
  for (const key of tensors.keys()) {
    const module = key.endsWith(".weight") ? key.slice(0, -".weight".length) : "";
    const others = otherwiseJoined(module).filter((each) => !tensors.has(`${each}.weight`));
    const found = others.flatMap(baseNames).find(({ name }) => files.has(name));
    if (found === undefined) continue;
    throw new QeditError(
      "QEDIT_E_LORA",
      `Cannot use ${file} with ${modelFile}: it adapts "${found.name}", which the model has as "${module}"`,
      { hint: "Take the transformer in the other form: ComfyUI's single file, or diffusers' folder" },
    );
  }
}

// A key of a module that has an adapter, which says something that is not understood: without it the adapter would be another one. The difference of
// a bias that the model lacks is none.
function refuseUnknownParts(file: string, candidates: readonly Candidate[], unmatched: readonly string[]): void {
  const names = new Set(candidates.map(({ name }) => name));
  const unknown = unmatched.filter((key) => {
    const dots = [...key.matchAll(/\./g)].map(({ index }) => key.slice(0, index));
    return dots.some((each) => names.has(each)) && readAdapterKey(key)?.part !== "diff_b";
  });
  if (unknown.length === 0) return;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use ${file}: of modules that it adapts it holds ${someOf(unknown)}, which qedit does not know`,
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
  const { matched, unmatched, otherModules, ranks, kinds, layout } = match;
  const ranked = [...matched.values()].filter(({ rank }) => rank !== undefined);
  const alphas = distinct(ranked.flatMap(({ alpha }) => (alpha === undefined ? [] : [alpha])));
  const withoutAlpha = ranked.some(({ alpha }) => alpha === undefined) ? ["none"] : [];
  const facts = [
    `matched ${matched.size}/${matched.size + otherModules} modules`,
    ...kinds,
    ...(ranked.length > 0 ? [`rank ${ranks.join(", ")}`, `alpha ${[...alphas, ...withoutAlpha].join(", ")}`] : []),
    `layout ${layout}`,
  ];
  const lines = [facts.join(", ")];
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

interface ModelModule {
  readonly module: string;
  readonly isNorm: boolean;
  readonly hasBias: boolean;
}

/** The adapter of a module; undefined when the file has none. Throws QEDIT_E_LORA when it has two, or a part is missing. */
function findAdapter(
  file: string,
  files: ReadonlyMap<string, FileModule>,
  { module, isNorm, hasBias }: ModelModule,
): Candidate | undefined {
  const found = baseNames(module).flatMap(({ prefix, name }) => {
    const own = files.get(name);
    if (own === undefined) return [];
    // A norm has no matrix to add to; without a bias in the model ComfyUI adds none either.
    const parts = new Map(
      [...own.parts].filter(
        ([part]) => (!isNorm || part === "diff" || part === "alpha") && (hasBias || part !== "diff_b"),
      ),
    );
    const only = [...parts.keys()].every((part) => part === "alpha");
    return only ? [] : [{ ...own, prefix, name, parts }];
  });
  const [first, second] = found;
  if (first === undefined) return undefined;
  if (second !== undefined) {
    const keys = [first, second].map(({ parts }) => `"${[...parts.values()][0]!.key}"`);
    throw new QeditError("QEDIT_E_LORA", `Cannot use ${file}: ${keys.join(" and ")} are two adapters of one module`, {
      hint: "Take the adapter from its publisher again, as one of one kind",
    });
  }
  const { prefix, parts, layouts, adapterNames, repeated } = first;
  if (repeated.length > 0) throw severalAdapters(file, `"${repeated[0]}" beside another of ${module}`);
  const prefixText = prefix === "" ? "no prefix" : `prefix ${prefix}`;
  return {
    module,
    name: first.name,
    layout: [...layouts, prefixText].join(", "),
    kind: kindOf(file, parts),
    parts,
    adapterNames,
  };
}

function severalAdapters(file: string, found: string): QeditError {
  return new QeditError("QEDIT_E_LORA", `Cannot use ${file}: it holds several adapters, ${found}`, {
    hint: "Save each to a file of its own: `qedit run --help` says how to give several",
  });
}

/** Alpha values of the candidates that have one. */
async function readAlphas(file: string, candidates: readonly Candidate[]): Promise<Map<Candidate, number>> {
  const having = candidates.flatMap((candidate) => {
    const alpha = candidate.parts.get("alpha");
    return alpha === undefined ? [] : [{ candidate, ...alpha }];
  });
  const wrong = having.find(({ stored }) => !isScalar(stored));
  if (wrong !== undefined)
    throw wrongAlpha(file, wrong.key, `${wrong.stored.dtype} [${wrong.stored.shape.join(", ")}]`);
  const values = await readScalars(having.map(({ stored }) => stored));
  return new Map(
    having.map(({ candidate, key }, i) => {
      const value = values[i] ?? NaN;
      if (!Number.isFinite(value)) throw wrongAlpha(file, key, String(value));
      return [candidate, value];
    }),
  );
}

function isScalar({ shape }: StoredTensor): boolean {
  return shape.every((dim) => dim === 1);
}

function wrongAlpha(file: string, key: string, found: string): QeditError {
  return new QeditError("QEDIT_E_LORA", `Cannot use "${key}" of ${file}: wanted a number, found ${found}`);
}

function adapterOf(
  { module, kind, parts }: Candidate,
  { alpha, configured }: { alpha: number | undefined; configured: ReturnType<typeof configuredScale> },
): MatchedAdapter {
  const rank = dividingRank(parts);
  const own = { kind, parts: adapterParts(parts), rank };
  if (alpha !== undefined) return { ...own, alpha: rank && alpha, scale: rank === undefined ? 1 : alpha / rank };
  const { alpha: stated, scale } = configured(module, { kind, rank });
  return { ...own, alpha: stated, scale };
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
