// Writes the weights of a checkpoint again in another form: under other names, in shards, with config.json beside them.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint, StoredTensor } from "../../src/checkpoint/checkpoint.js";
import { readBytes } from "../../src/checkpoint/read-tensor.js";
import { encodeHeader } from "../../src/checkpoint/safetensors/safetensors-writer.js";

/** The form to write. */
export interface Rewritten {
  readonly folder: string;
  /** Name of the file, or of the one that shards are numbered after. */
  readonly file: string;
  /** New name by old one; names that are not here stay. */
  readonly rename?: Readonly<Record<string, string>> | undefined;
  readonly shards?: number;
  /** Writes the config of the metadata as config.json. */
  readonly config?: boolean;
  readonly keepMetadata?: boolean;
}

/** Writes a checkpoint in that form; gives the path of its file, or of its index. */
export async function rewritten(
  checkpoint: Checkpoint,
  { folder, file, rename = {}, shards, config, keepMetadata }: Rewritten,
): Promise<string> {
  const tensors = [...checkpoint.tensors].map(([name, stored]) => [rename[name] ?? name, stored] as const);
  if (config) await writeFile(join(folder, "config.json"), checkpoint.metadata["config"]!);
  const metadata = keepMetadata ? checkpoint.metadata : {};
  if (shards === undefined) {
    await writeTensors(join(folder, file), tensors, metadata);
    return join(folder, file);
  }
  const weights: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard += 1) {
    const number = (value: number) => String(value).padStart(5, "0");
    const name = file.replace(/\.safetensors$/, `-${number(shard + 1)}-of-${number(shards)}.safetensors`);
    const part = tensors.filter((_, index) => index % shards === shard);
    await writeTensors(join(folder, name), part, metadata);
    for (const [tensor] of part) weights[tensor] = name;
  }
  const index = join(folder, `${file}.index.json`);
  await writeFile(index, JSON.stringify({ metadata: { total_size: 1 }, weight_map: weights }));
  return index;
}

async function writeTensors(
  path: string,
  tensors: readonly (readonly [string, StoredTensor])[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const byName = new Map(tensors);
  const { header, ordered } = encodeHeader(
    tensors.map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    metadata,
  );
  const data = await Promise.all(ordered.map(({ name }) => readBytes(byName.get(name)!)));
  await writeFile(path, Buffer.concat([header, ...data]));
}
