// The alphas of LoRAs that keep them beside the matrices: diffusers in the file's metadata (`lora_adapter_metadata`), PEFT in
// adapter_config.json. Both are PEFT's LoraConfig; the scale of a module is alpha / rank, or alpha / sqrt(rank) with use_rslora.
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ioFailure } from "../../std/files.js";
import { isObject } from "../../std/guards.js";
import type { Checkpoint } from "../checkpoint.js";
import { openCheckpoint } from "../open.js";
import type { ReadOptions } from "../safetensors/safetensors.js";
import { metadataObject } from "../safetensors/safetensors-header.js";

/** Where diffusers puts the configuration (diffusers 0.39 loaders/lora_base.py), and where it goes here for PEFT's files too. */
const METADATA_KEY = "lora_adapter_metadata";
const PEFT_FILE = "adapter_model.safetensors";

/** A LoRA by its file, or by the folder that holds only it; PEFT's adapter_config.json beside it becomes metadata. Throws as openCheckpoint. */
export async function openLora(path: string, options: ReadOptions = {}): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(path, options);
  const [stored] = checkpoint.tensors.values();
  // The name that the user gave may be a folder, and the name of the file behind a link another.
  const folder = basename(path) === PEFT_FILE ? dirname(path) : path;
  if (stored === undefined || (basename(path) !== PEFT_FILE && basename(stored.file) !== PEFT_FILE)) return checkpoint;
  const config = await readFile(join(folder, "adapter_config.json"), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw ioFailure("read", join(folder, "adapter_config.json"), error);
  });
  return config === undefined
    ? checkpoint
    : { ...checkpoint, metadata: { [METADATA_KEY]: config, ...checkpoint.metadata } };
}

/** The alpha that a file's configuration gives a module of some rank, as one that is divided by the rank; undefined without configuration. */
export function configuredAlpha({ metadata }: Checkpoint): (module: string, rank: number) => number | undefined {
  // What is no configuration is of another tool: they use the key freely.
  const config = metadataObject(metadata[METADATA_KEY]) ?? {};
  const value = (key: string) => config[`transformer.${key}`] ?? config[key];
  const patterns = Object.entries(
    isObject(value("alpha_pattern")) ? (value("alpha_pattern") as Record<string, unknown>) : {},
  );
  return (module, rank) => {
    const matching = patterns.find(([pattern]) => module === pattern || module.endsWith(`.${pattern}`));
    const alpha = matching?.[1] ?? value("lora_alpha");
    if (typeof alpha !== "number" || !Number.isFinite(alpha)) return undefined;
    return value("use_rslora") === true ? alpha * Math.sqrt(rank) : alpha;
  };
}
