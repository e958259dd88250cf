// Any form of checkpoint by its path: one .safetensors or GGUF file, the index of a sharded one, or a folder as diffusers and transformers
// write it. config.json beside the weights becomes the metadata key `config`, as single files carry it.
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QeditError } from "../std/errors.js";
import { ioFailure, readRange, readTextFile } from "../std/files.js";
import { isObject } from "../std/guards.js";
import { jsonExcess } from "../std/json-limits.js";
import type { Checkpoint, StoredTensor } from "./checkpoint.js";
import { objectText, readConfig } from "./config-beside.js";
import { type ReadFiles, WeightsIdentity } from "./file-identity.js";
import { isGguf, readGguf } from "./gguf/gguf.js";
import { GGUF_MAGIC } from "./gguf/gguf-header.js";
import { withLocated } from "./located-file.js";
import { type ModelPart, publishedNames } from "./published-names.js";
import { type ReadOptions, readSafetensors, readSafetensorsOf } from "./safetensors/safetensors.js";

/** Names that tools give the weights of a folder, so that the config.json beside belongs to them. */
const TOOL_NAME = /^(diffusion_pytorch_model|model)(\.\w+)?\.safetensors(\.index(\.\w+)?\.json)?$/;
const INDEX = /\.safetensors\.index(\.\w+)?\.json$/;
const SHARD = /-\d{5}-of-\d{5}\.safetensors$/;
const PICKLE = /\.(ckpt|pt|pth|bin)$/i;
/** Far above any index; limits the memory that a wrong one takes. */
const MAX_INDEX_BYTES = 100_000_000;
const INDEX_LIMITS = { depth: 8, entries: 1_000_000 };

/**
 * A part of a model under its published keys, from a file, an index or a folder; of a whole model's folder, the part's own folder is
 * taken. Throws QEDIT_E_MODEL_MISSING where nothing is, QEDIT_E_CHECKPOINT for what is no complete checkpoint.
 */
export async function openPart(path: string, part: ModelPart, options: ReadOptions = {}): Promise<Checkpoint> {
  return publishedNames(await openCheckpoint(await placeOfPart(path, part), options), part);
}

/** The path of a part: its own folder in the folder of a whole model, else the path itself. */
export async function placeOfPart(path: string, part: ModelPart): Promise<string> {
  const inside = join(path, part);
  return (await isFolder(path)) && (await isFolder(inside)) ? inside : path;
}

/** The tensors under the keys that the files have. Throws as openPart. */
export async function openCheckpoint(path: string, options: ReadOptions = {}): Promise<Checkpoint> {
  const choose = () => weightsOf(path);
  const file = (await isFolder(path)) ? await (options.identity?.lookUp(choose) ?? choose()) : path;
  if (SHARD.test(file) && file === path) await refuseShard(path);
  const checkpoint = INDEX.test(file) ? await readSharded(file, options) : await readSingle(file, options);
  const named = { ...checkpoint, file: path };
  return TOOL_NAME.test(basename(file)) ? withConfig(named, join(dirname(file), "config.json"), options) : named;
}

/** An opened checkpoint, and what identifies its weights. */
export interface Identified extends ReadFiles {
  readonly checkpoint: Checkpoint;
  /**
   * A hexadecimal SHA-256 over each file's length, its header, and 256 blocks of 4096 bytes spread evenly over its data, the first and the last
   * included, and over the config.json or adapter_config.json beside them. It does not depend on names or times. It is an identity and not an integrity check: damage between the blocks goes unseen, see `states`.
   */
  readonly identity: string;
}

/** Opens a checkpoint, and takes its identity while its files are open: every header is read once. Throws as `opening` does. */
export async function identified(opening: (options: ReadOptions) => Promise<Checkpoint>): Promise<Identified> {
  const identity = new WeightsIdentity();
  const checkpoint = await opening({ identity });
  return { checkpoint, ...identity.digest() };
}

/** The identity of the weights at a path. Throws as openCheckpoint. */
export async function identityOf(path: string): Promise<string> {
  return (await identified((options) => openCheckpoint(path, options))).identity;
}

/** The files of a sharded checkpoint, absolute or relative as the index is; throws QEDIT_E_CHECKPOINT for one out of form. */
export async function shardsOf(index: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(await readWeightMap(index))) {
    if (typeof shard !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(shard) || shard.startsWith("..")) {
      throw refusal(
        index,
        `"${tensor}" is in ${JSON.stringify(shard)}, a .safetensors file of the same folder is wanted`,
      );
    }
    const file = join(dirname(index), shard);
    shards.set(file, [...(shards.get(file) ?? []), tensor]);
  }
  return shards;
}

async function readSingle(file: string, options: ReadOptions): Promise<Checkpoint> {
  return withLocated(file, async (handle, source) => {
    const start = await readRange(handle, 0, Math.min(source.size, GGUF_MAGIC.length));
    return isGguf(start) ? readGguf(handle, source, options) : readSafetensorsOf(handle, source, options);
  });
}

async function readSharded(index: string, options: ReadOptions): Promise<Checkpoint> {
  const tensors = new Map<string, StoredTensor>();
  let metadata: Checkpoint["metadata"] = {};
  const layerFormats = new Set<string>();
  await options.identity?.stamp(index);
  const shards = await shardsOf(index);
  options.identity?.takePlaces([...shards].map(([file, names]) => [basename(file), names]));
  for (const [file, names] of shards) {
    const shard = await readSafetensors(file, options);
    metadata = { ...shard.metadata, ...metadata };
    for (const format of shard.layerFormats ?? []) layerFormats.add(format);
    for (const name of names) {
      const stored = shard.tensors.get(name);
      if (stored === undefined) throw refusal(index, `"${name}" is not in ${basename(file)}`);
      tensors.set(name, stored);
    }
  }
  if (tensors.size === 0) throw refusal(index, "it names no tensors");
  return { file: index, tensors, metadata, layerFormats: [...layerFormats] };
}

async function readWeightMap(index: string): Promise<Record<string, unknown>> {
  try {
    const text = await readTextFile(index, MAX_INDEX_BYTES);
    const excess = jsonExcess(text, INDEX_LIMITS);
    if (excess !== undefined) throw refusal(index, `it ${excess}`);
    const json: unknown = JSON.parse(text);
    const map = isObject(json) ? json["weight_map"] : undefined;
    if (isObject(map)) return map;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw ioFailure("read", index, error);
  }
  throw refusal(index, 'wanted JSON with an object "weight_map"');
}

// The one checkpoint of a folder; its index, where there is one, stands for the shards.
async function weightsOf(folder: string): Promise<string> {
  const names = (
    await readdir(folder).catch((error: unknown) => {
      throw ioFailure("read", folder, error);
    })
  ).sort();
  const indexes = names.filter((name) => INDEX.test(name));
  const singles = names.filter((name) => name.endsWith(".safetensors") && !SHARD.test(name));
  const quantised = names.filter((name) => /\.gguf$/i.test(name) && !/mmproj/i.test(name));
  const found = [indexes, singles, quantised].find((each) => each.length > 0) ?? [];
  // Beside the weights in full there may be variants: diffusion_pytorch_model.fp16.safetensors.
  const plain = found.find((name) => /^(diffusion_pytorch_model|model)\.safetensors(\.index\.json)?$/.test(name));
  const only = plain ?? (found.length === 1 ? found[0] : undefined);
  if (only !== undefined) return join(folder, only);
  if (found.length > 1) throw refusal(folder, `it holds several: ${found.join(", ")}`, "Name one of them");
  const pickle = names.find((name) => PICKLE.test(name));
  if (pickle !== undefined)
    throw refusal(
      folder,
      `${pickle} is a Python pickle, which can run any code when it is opened`,
      "Find the model as .safetensors",
    );
  throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find a .safetensors file in ${folder}`, {
    hint: "Name the file, or the folder that holds it",
  });
}

// One shard has a part of the tensors only; without its index it is unknown which.
async function refuseShard(path: string): Promise<void> {
  const names = await readdir(dirname(path)).catch(() => []);
  const index = names.find((name) => INDEX.test(name));
  if (index === undefined)
    throw refusal(
      path,
      "it is one of several parts, and their index is missing",
      "Download the .safetensors.index.json beside the parts",
    );
  throw refusal(path, "it is one of several parts", `Name their index or their folder: ${dirname(path)}`);
}

async function withConfig(checkpoint: Checkpoint, path: string, options: ReadOptions): Promise<Checkpoint> {
  if (checkpoint.metadata["config"] !== undefined) return checkpoint;
  const text = await readConfig(path, options);
  if (text === undefined) return checkpoint;
  const config = objectText(path, text, {
    code: "QEDIT_E_CHECKPOINT",
    wanted: "the model's configuration",
    hint: "Download it again: it says what the tensors do not",
  });
  return { ...checkpoint, metadata: { ...checkpoint.metadata, config } };
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function refusal(
  path: string,
  reason: string,
  hint = "Compare the folder with its publisher's: `qedit models pull` downloads a whole model",
): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${path}: ${reason}`, { hint });
}
