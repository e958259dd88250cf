// The alphas of LoRAs that keep them beside the matrices: diffusers in the file's metadata (`lora_adapter_metadata`), PEFT in
// adapter_config.json. Both are PEFT's LoraConfig; the scale of a module is alpha / rank, or alpha / sqrt(rank) with use_rslora.
import { basename, dirname, join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import { isObject } from "../../std/guards.js";
import type { Checkpoint } from "../checkpoint.js";
import { objectText, readConfig } from "../config-beside.js";
import { openCheckpoint } from "../open.js";
import type { ReadOptions } from "../safetensors/safetensors.js";
import { metadataObject } from "../safetensors/safetensors-header.js";
import type { AdapterKind, ModuleAdapter } from "./module-adapter.js";
import { areTooMany, namePattern } from "./name-patterns.js";

/** Where diffusers puts the configuration (diffusers 0.39 loaders/lora_base.py), and where it goes here for PEFT's files too. */
const METADATA_KEY = "lora_adapter_metadata";
const PEFT_FILE = "adapter_model.safetensors";

/**
 * A LoRA by its file, or by the folder that holds only it; PEFT's adapter_config.json beside it becomes metadata. Throws as openCheckpoint, and
 * QEDIT_E_LORA when that is no configuration.
 */
export async function openLora(path: string, options: ReadOptions = {}): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(path, options);
  const [stored] = checkpoint.tensors.values();
  // The name that the user gave may be a folder, and the name of the file behind a link another.
  const folder = basename(path) === PEFT_FILE ? dirname(path) : path;
  if (stored === undefined || (basename(path) !== PEFT_FILE && basename(stored.file) !== PEFT_FILE)) return checkpoint;
  const beside = join(folder, "adapter_config.json");
  const config = await readConfig(beside, options);
  if (config === undefined) return checkpoint;
  const { metadata } = checkpoint;
  const own = metadataObject(metadata[METADATA_KEY]) && metadata[METADATA_KEY];
  return { ...checkpoint, metadata: { ...metadata, [METADATA_KEY]: own ?? configurationText(beside, config) } };
}

// Unlike metadata, which other tools write too, this file is PEFT's: without it the strength would be another one.
function configurationText(path: string, config: string): string {
  return objectText(path, config, {
    code: "QEDIT_E_LORA",
    wanted: "PEFT's configuration",
    hint: "Download it again: it has the adapter's alpha, which decides its strength",
  });
}

/** What a file's configuration says of a module: its alpha, as one that is divided by the rank, and the scale. */
export interface ConfiguredScale {
  readonly alpha: number | undefined;
  /** 1 without configuration. */
  readonly scale: number;
}

/** The values of a file's configuration by their names; undefined where it has none. What is no configuration is of another tool: they use the key freely. */
export function configurationOf({ metadata }: Pick<Checkpoint, "metadata">): ((key: string) => unknown) | undefined {
  const config = metadataObject(metadata[METADATA_KEY]);
  return config && ((key) => config[`transformer.${key}`] ?? config[key]);
}

/** Initialisations of PEFT after which the model's own weights are others, so that the adapter is none for the published ones. */
const CHANGES_MODEL = /^(?:pissa|olora|corda|loftq|lora_ga)/;

/** Reads the scales of a file's configuration. Throws QEDIT_E_LORA for an adapter that belongs to a changed model. */
export function configuredScale(
  lora: Checkpoint,
): (module: string, of: { kind: AdapterKind | undefined; rank: number | undefined }) => ConfiguredScale {
  const { file } = lora;
  const value = configurationOf(lora) ?? (() => undefined);
  const start = value("init_lora_weights");
  if (typeof start === "string" && CHANGES_MODEL.test(start)) {
    throw new QeditError(
      "QEDIT_E_LORA",
      `Cannot use ${file}: it is for a model whose weights were changed (${start})`,
      {
        hint: "Save it by PEFT with path_initial_model_for_weight_conversion, as a plain LoRA",
      },
    );
  }
  const patternsOf = (key: "alpha_pattern" | "rank_pattern") => {
    const patterns = isObject(value(key)) ? Object.entries(value(key) as Record<string, unknown>) : [];
    if (areTooMany(patterns.map(([pattern]) => pattern)))
      throw new QeditError("QEDIT_E_LORA", `Cannot use ${file}: its configuration has ${patterns.length} of ${key}`, {
        hint: "Name the modules in fewer expressions",
      });
    return patterns.map(([pattern, number]) => ({ fits: readPattern(file, key, pattern), number }));
  };
  const alphas = patternsOf("alpha_pattern");
  // The ranks of LoRAs are those of their matrices.
  const ranks = value("lora_alpha") === undefined ? patternsOf("rank_pattern") : [];
  const numberFor = (module: string, patterns: typeof alphas, otherwise: unknown) => {
    const number = patterns.find(({ fits }) => fits(module))?.number ?? otherwise;
    if (number === undefined || number === null) return undefined;
    if (typeof number === "number" && Number.isFinite(number)) return number;
    throw new QeditError(
      "QEDIT_E_LORA",
      `Cannot use ${file}: its configuration has ${shown(JSON.stringify(number))} for ${module}, where a number is wanted`,
      { hint: "Take it from its publisher again" },
    );
  };
  return (module, { kind, rank }) => {
    // PEFT's own LoHa and LoKr divide by the rank of the configuration, whole factors too.
    const isLycoris = kind === "loha" || kind === "lokr";
    const alpha = numberFor(module, alphas, value(isLycoris ? "alpha" : "lora_alpha"));
    const divisor = isLycoris ? numberFor(module, ranks, value("r")) : rank;
    if (alpha === undefined || divisor === undefined || divisor <= 0) return { alpha: undefined, scale: 1 };
    const shown = value("use_rslora") === true && !isLycoris ? alpha * Math.sqrt(divisor) : alpha;
    return { alpha: shown, scale: shown / divisor };
  };
}

/** Throws QEDIT_E_LORA when the file's configuration says that it is a DoRA, and modules lack the magnitudes that PEFT then saves of each. */
export function refuseMissingMagnitudes(
  lora: Checkpoint,
  modules: Iterable<readonly [name: string, Pick<ModuleAdapter, "kind" | "parts">]>,
): void {
  if (configurationOf(lora)?.("use_dora") !== true) return;
  const [bare] = [...modules].find(([, { kind, parts }]) => kind === "lora" && parts.magnitude === undefined) ?? [];
  if (bare === undefined) return;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use ${lora.file}: its configuration says that it is a DoRA (use_dora), and ${bare} has no magnitudes`,
    { hint: "Take it from its publisher again: PEFT saves lora_magnitude_vector beside lora_A and lora_B" },
  );
}

function readPattern(file: string, key: string, pattern: string): (module: string) => boolean {
  const fits = namePattern(pattern);
  if (fits !== undefined) return fits;
  throw new QeditError(
    "QEDIT_E_LORA",
    `Cannot use ${file}: its configuration has the ${key} "${shown(pattern)}", a regular expression that qedit does not read`,
    { hint: "Name the modules in it, or write . \\d + * and | only" },
  );
}
