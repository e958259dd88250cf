// Resolves the settings of an edit: applies a preset and the model's defaults, and refuses settings without effect.
import { basename } from "node:path";
import {
  type Preset,
  preset,
  publishedModel,
  readCatalog,
  type SamplingNumbers,
} from "../../catalog/published/models.js";
import { parseLora } from "../../stages/networks/loras.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { jsonName } from "../parameters/parameter.js";
import type { Given, GivenValues } from "./given.js";
import { isModelFolder, modelOfFiles, type OpenTransformer, readTransformer } from "./model-of-files.js";
import { lightningSteps } from "./sampling-defaults.js";
import { INSTEAD_OF_SIGMAS, uselessSettings } from "./useless-settings.js";

type Values = Readonly<Record<string, unknown>>;

/** Settings with the parameters' defaults, and which of them were given. */
export interface Unresolved<Settings> {
  readonly settings: Settings;
  readonly given: GivenValues;
  /** Whether settings that do not go together only cause a warning. */
  readonly force: boolean;
  /** Whether the settings are resolved already, where the edit was asked for. */
  readonly isResolved?: boolean;
  readonly emit: Emit;
}

/**
 * Settings with a preset and the model's defaults applied. A preset has the strength of the source that named it: stronger values override it,
 * values of equal strength contradict it. Throws QEDIT_E_USAGE for a contradiction or a setting without effect; with `force`, only warns.
 */
export async function resolveSettings<Settings extends object>(
  unresolved: Unresolved<Settings>,
  open: OpenTransformer = readTransformer,
): Promise<Settings> {
  const { settings, given, force, isResolved = false, emit } = unresolved;
  if (isResolved) return settings;
  const values: Values = settings as Values;
  const complain = complaints(force, emit);
  const kin = await modelOfFiles(values, open);
  const named = await namedPreset({ ...values, model: values["model"] ?? kin }, given);
  const byPreset = named === undefined ? {} : presetValues(named, { values, given, complain });
  const merged = { ...values, ...byPreset, ...withoutWeaker(given) };
  const defaults = await modelNumbers(values, kin);
  const numbers = defaults && modelValues(merged, new Set([...given.keys(), ...Object.keys(byPreset)]), defaults);
  const model = values["model"] ?? kin;
  const resolved = withCountedSteps({ ...merged, ...(model !== undefined && { model }), ...numbers });
  if (defaults?.sigmas && "sigmas" in values && resolved["sigmas"] === undefined)
    emit({
      kind: "warning",
      text: `this model was distilled for its ${defaults.sigmas.length - 1} noise levels: others may blur its pictures`,
    });
  for (const { lora, model, owners } of await lorasOfOtherModels(resolved)) {
    const remedies = [param("model", owners[0]), param("lora", "lightning-4steps"), `${param("force")} to go on`];
    complain(
      new QeditError("QEDIT_E_USAGE", `Cannot use ${lora} with ${model}: it was made for ${owners.join(", ")}`, {
        hint: `Use ${remedies[0]}, ${remedies[1]}, or ${remedies[2]}`,
        parameter: "lora",
      }),
    );
  }
  for (const { setting, message, hint } of uselessSettings(resolved, new Set(given.keys()))) {
    const error = new QeditError("QEDIT_E_USAGE", message, {
      hint: `${hint}, or ${param("force")} to go on`,
      parameter: jsonName(setting),
    });
    // A value from a settings file may be meant for other edits: only warn.
    complain(error, given.get(setting)?.isOfCall ? "refuse" : "warn");
  }
  return resolved as Settings;
}

// Whoever limits steps sees those of given noise levels too.
function withCountedSteps(values: Values): Values {
  const levels = values["sigmas"] as readonly number[] | undefined;
  return levels === undefined ? values : { ...values, steps: levels.length - 1 };
}

type Complain = (error: QeditError, how?: "refuse" | "warn") => void;

function complaints(force: boolean, emit: Emit): Complain {
  return (error, how = "refuse") => {
    if (how === "refuse" && !force) throw error;
    emit({ kind: "warning", text: error.marked.message });
  };
}

interface NamedPreset {
  /** The parameter that named it, with its value, marked for messages. */
  readonly parameter: string;
  readonly strength: number;
  readonly preset: Preset;
}

async function namedPreset(values: Values, given: GivenValues): Promise<NamedPreset | undefined> {
  const { fast, quality, model } = values as { fast?: string; quality?: boolean; model?: string };
  if (fast !== undefined && quality) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${param("fast")} and ${param("quality")} at once: each sets steps and cfg`,
      { hint: "Leave one of them out", parameter: "quality" },
    );
  }
  const strengthOf = (name: string) => given.get(name)!.strength;
  if (fast !== undefined) {
    const wanted = await preset(model, `fast-${fast}`);
    return { parameter: param("fast", fast), strength: strengthOf("fast"), preset: wanted };
  }
  if (!quality) return undefined;
  return { parameter: param("quality"), strength: strengthOf("quality"), preset: await preset(model, "quality") };
}

// Of two values that exclude each other the stronger one counts. Where both are as strong, they contradict each other, which is said later.
function withoutWeaker(given: GivenValues): Values {
  const isStronger = (one: string, other: string) =>
    given.has(one) && given.has(other) && given.get(one)!.strength > given.get(other)!.strength;
  return {
    ...(isStronger("size", "megapixels") && { megapixels: undefined }),
    ...(isStronger("megapixels", "size") && { size: undefined }),
    ...(INSTEAD_OF_SIGMAS.some((name) => isStronger(name, "sigmas")) && { sigmas: undefined }),
  };
}

interface Surroundings {
  readonly values: Values;
  readonly given: GivenValues;
  readonly complain: Complain;
}

function presetValues(
  { parameter: written, strength, preset: { summary: _, lora, ...numbers } }: NamedPreset,
  { values, given, complain }: Surroundings,
): Values {
  const chosen: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(numbers)) {
    const own = given.get(name);
    if (own === undefined || strength > own.strength) chosen[name] = value;
    else if (own.strength === strength && own.value !== value) complain(contradiction(written, own, { name, value }));
  }
  const loras = (values["lora"] ?? []) as readonly string[];
  const lightning = loras.find((each) => lightningSteps(parseLora(each).path) !== undefined);
  if (lightning !== undefined) {
    complain(
      new QeditError(
        "QEDIT_E_USAGE",
        `Cannot use ${written} and the Lightning LoRA ${lightning} at once: the preset decides about it`,
        { hint: "Leave one of them out", parameter: "lora" },
      ),
    );
    return chosen;
  }
  return lora === undefined ? chosen : { ...chosen, lora: [lora, ...loras] };
}

function contradiction(written: string, own: Given, { name, value }: { name: string; value: unknown }): QeditError {
  const setting = `${own.name} ${String(own.value)}`;
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${written} and ${setting} at once: the preset sets ${jsonName(name).replaceAll("_", "-")} to ${String(value)}`,
    { hint: `Leave one of them out, or ${param("force")} to use ${own.name}`, parameter: jsonName(name) },
  );
}

interface LoraOfOtherModel {
  readonly lora: string;
  readonly model: string;
  readonly owners: readonly string[];
}

// LoRAs whose file name the catalogue lists for other models only. If only a transformer file was named, its model is unknown.
async function lorasOfOtherModels(values: Values): Promise<readonly LoraOfOtherModel[]> {
  const {
    lora = [],
    model,
    transformer,
  } = values as { lora?: readonly string[]; model?: string; transformer?: string };
  const { default: first, models } = await readCatalog();
  const chosen = model ?? (transformer === undefined ? first : undefined);
  if (chosen === undefined || !models.has(chosen)) return [];
  return lora.flatMap((written) => {
    const name = basename(parseLora(written).path);
    const owners = [...models.values()].filter(({ loras }) => Object.values(loras).some(({ file }) => file === name));
    const names = owners.map((owner) => owner.name);
    return names.length === 0 || names.includes(chosen) ? [] : [{ lora: name, model: chosen, owners: names }];
  });
}

/** Parameters that noise levels stand in place of. */
const IN_PLACE_OF_SIGMAS = ["steps", "scheduler", "shift", "denoise"] as const;

// The model's numbers, or those of a model of the same family as the files; undefined for a folder of the default family.
async function modelNumbers(values: Values, kin: string | undefined): Promise<SamplingNumbers | undefined> {
  const model = values["model"] as string | undefined;
  if (isModelFolder(model)) return kin === undefined ? undefined : (await publishedModel(kin)).defaults;
  return (await publishedModel(model ?? kin)).defaults;
}

// The defaults for parameters that were not given. A Lightning LoRA has its own steps and cfg. A single stage gets only the parameters it has.
function modelValues(values: Values, known: ReadonlySet<string>, defaults: SamplingNumbers): Values {
  const loras = (values["lora"] ?? []) as readonly string[];
  const hasLightning = loras.some((each) => lightningSteps(parseLora(each).path) !== undefined);
  const free = Object.entries(defaults).filter(([name]) => {
    const isDecided =
      known.has(name) ||
      (hasLightning && (name === "steps" || name === "cfg" || name === "sigmas")) ||
      (name === "sigmas" && IN_PLACE_OF_SIGMAS.some((other) => known.has(other))) ||
      (name === "megapixels" && known.has("size"));
    return name in values && !isDecided;
  });
  return Object.fromEntries(free);
}
