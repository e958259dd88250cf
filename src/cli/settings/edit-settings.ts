// The settings of an edit as they will be used: a preset and the model's own numbers filled in, and what cannot have an effect refused.
import { basename } from "node:path";
import { type Preset, preset, publishedModel, readCatalog } from "../../catalog/published/models.js";
import { uselessSettings } from "../../edit/useless-settings.js";
import { parseLora } from "../../stages/networks/loras.js";
import { choice, flag, type OptionTable, type SettingsOf } from "../../stages/option.js";
import { lightningSteps } from "../../stages/sampling-defaults.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { fileKey, type Given, LAYERS } from "./settings.js";

/** Options that set several others at once. */
export const presetOptions = {
  fast: choice(
    {
      flags: "--fast <steps>",
      summary: "the model's Lightning LoRA with the steps, cfg and shift it was made for",
      group: "Sampling",
    },
    ["4", "8"],
    undefined,
  ),
  quality: flag({
    flags: "--quality",
    summary: "more steps and stronger guidance, no Lightning LoRA",
    group: "Sampling",
  }),
};

type Values = Readonly<Record<string, unknown>>;

/** What is known before: the options, their values, which of them were given and by whom. */
export interface Unresolved<Table extends OptionTable> {
  readonly table: Table;
  readonly settings: SettingsOf<Table>;
  readonly given: ReadonlyMap<string, Given>;
  readonly emit: Emit;
}

/**
 * Settings with a preset and the model's numbers in them. A preset counts as strongly as the place that named it: what a stronger layer
 * says stays, what the same layer says contradicts it. Throws QEDIT_E_USAGE for a contradiction or a setting without effect, which
 * `force` turns into a warning.
 */
export async function resolveSettings<Table extends OptionTable>({
  table,
  settings,
  given,
  emit,
}: Unresolved<Table>): Promise<SettingsOf<Table>> {
  const values: Values = settings;
  const complain = complaints(values["force"] === true, emit);
  const named = await namedPreset(values, given);
  const byPreset = named === undefined ? {} : presetValues(named, { values, given, table, complain });
  const merged = { ...values, ...byPreset };
  const resolved = {
    ...merged,
    ...(await modelValues(merged, new Set([...given.keys(), ...Object.keys(byPreset)]), table)),
  };
  for (const { lora, model, owners } of await loraOfOthers(resolved)) {
    complain(
      new QeditError("QEDIT_E_USAGE", `Cannot use ${lora} with ${model}: it was made for ${owners.join(", ")}`, {
        hint: `Use --model ${owners[0]}, --lora lightning-4steps, or --force to go on`,
      }),
    );
  }
  for (const { setting, message, hint } of uselessSettings(resolved, new Set(given.keys()))) {
    const isOfCall = ["job", "flag"].includes(given.get(setting)?.layer ?? "");
    complain(
      new QeditError("QEDIT_E_USAGE", message, { hint: `${hint}, or --force to go on` }),
      isOfCall ? "refuse" : "warn",
    );
  }
  return resolved as SettingsOf<Table>;
}

type Complain = (error: QeditError, how?: "refuse" | "warn") => void;

// What a flag says is meant for this call; what a settings file says may be meant for others.
function complaints(force: boolean, emit: Emit): Complain {
  return (error, how = "refuse") => {
    if (how === "refuse" && !force) throw error;
    emit({ kind: "warning", text: error.message });
  };
}

interface NamedPreset {
  /** As the user would write it: `--fast 4`. */
  readonly flag: string;
  readonly layer: Given["layer"];
  readonly preset: Preset;
}

async function namedPreset(values: Values, given: ReadonlyMap<string, Given>): Promise<NamedPreset | undefined> {
  const { fast, quality, model } = values as { fast?: string; quality?: boolean; model?: string };
  if (fast !== undefined && quality) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot use --fast and --quality at once: each sets steps and cfg", {
      hint: "Leave one of them out",
    });
  }
  if (fast !== undefined)
    return { flag: `--fast ${fast}`, layer: given.get("fast")!.layer, preset: await preset(model, `fast-${fast}`) };
  if (quality) return { flag: "--quality", layer: given.get("quality")!.layer, preset: await preset(model, "quality") };
  return undefined;
}

interface Surroundings {
  readonly values: Values;
  readonly given: ReadonlyMap<string, Given>;
  readonly table: OptionTable;
  readonly complain: Complain;
}

function presetValues(
  { flag: written, layer, preset: { summary: _, lora, ...numbers } }: NamedPreset,
  { values, given, table, complain }: Surroundings,
): Values {
  const chosen: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(numbers)) {
    const own = given.get(name);
    if (own === undefined || LAYERS.indexOf(layer) < LAYERS.indexOf(own.layer)) chosen[name] = value;
    else if (own.layer === layer && own.value !== value) {
      complain(
        new QeditError(
          "QEDIT_E_USAGE",
          `Cannot use ${written} and ${own.name} ${String(own.value)} at once: the preset sets ${fileKey(table[name]!)} to ${String(value)}`,
          {
            hint: `Leave one of them out, or --force to use ${own.name}`,
          },
        ),
      );
    }
  }
  const loras = (values["lora"] ?? []) as readonly string[];
  const lightning = loras.find((each) => lightningSteps(parseLora(each).path) !== undefined);
  if (lightning !== undefined) {
    complain(
      new QeditError(
        "QEDIT_E_USAGE",
        `Cannot use ${written} and the Lightning LoRA ${lightning} at once: the preset decides about it`,
        { hint: `Leave one of them out` },
      ),
    );
    return chosen;
  }
  return lora === undefined ? chosen : { ...chosen, lora: [lora, ...loras] };
}

interface OthersLora {
  readonly lora: string;
  readonly model: string;
  readonly owners: readonly string[];
}

// LoRAs that the catalogue knows by their file's name, but not for this model. Of a transformer that was named by itself nobody knows the model.
async function loraOfOthers(values: Values): Promise<readonly OthersLora[]> {
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
    const owners = [...models.values()]
      .filter(({ loras }) => Object.values(loras).some(({ file }) => file === name))
      .map((owner) => owner.name);
    return owners.length === 0 || owners.includes(chosen) ? [] : [{ lora: name, model: chosen, owners }];
  });
}

// A Lightning LoRA brings steps and cfg of its own; everything else that nobody gave is as the model's makers say.
async function modelValues(values: Values, known: ReadonlySet<string>, table: OptionTable): Promise<Values> {
  const model = values["model"] as string | undefined;
  if (model !== undefined && /[/\\]|^\.+$/.test(model)) return {};
  const { defaults } = await publishedModel(model);
  const hasLightning = ((values["lora"] ?? []) as readonly string[]).some(
    (each) => lightningSteps(parseLora(each).path) !== undefined,
  );
  const free = Object.entries(defaults).filter(([name]) => {
    const isDecided =
      known.has(name) ||
      (hasLightning && (name === "steps" || name === "cfg")) ||
      (name === "megapixels" && known.has("size"));
    return name in table && !isDecided;
  });
  return Object.fromEntries(free);
}
