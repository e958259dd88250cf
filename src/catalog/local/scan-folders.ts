// Scans the models folders and identifies every file by its header; nothing is copied, and no file that could run code is loaded.
import { open, readdir, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { isPickle } from "../../checkpoint/foreign.js";
import { openCheckpoint, shardsOf } from "../../checkpoint/open.js";
import { QeditError } from "../../std/errors.js";
import { ioFailure } from "../../std/files.js";
import { readCatalog } from "../published/models.js";
import type { Catalog, PublishedFile } from "../published/models-schema.js";
import { examine } from "./examine.js";
import { hubCacheFolder } from "./hub-cache.js";
import type { Identity } from "./identify.js";
import { modelPlaces, type Place, type SearchOptions } from "./model-folders.js";
import { walkModels } from "./walk.js";

/** A file with its identity, or why it is refused. */
export interface ScannedFile {
  readonly path: string;
  /** All shards together. */
  readonly bytes: number;
  /** Source of the Place in which it was found. */
  readonly source: string;
  readonly identity?: Identity;
  /** Catalogue entries with a file of this name, as `MODEL` or `MODEL LORA`. */
  readonly models: readonly string[];
  /** The release by the file's name, when the catalogue has no such file: `Qwen-Image-Edit-2509`. */
  readonly claimed?: string;
  /** Bytes of the published file of this name, where they differ. */
  readonly publishedBytes?: number;
  readonly refused?: string;
}

/** What a scan found. */
export interface Scan {
  readonly folders: readonly string[];
  readonly files: readonly ScannedFile[];
  /** Settings files that could not be read. */
  readonly problems: readonly string[];
}

const INDEX = /\.safetensors\.index(\.\w+)?\.json$/;
const SHARD = /-\d{5}-of-\d{5}\.safetensors$/;
const MAGIC_BYTES = 64;

/** Where to scan: every models folder, or only those of `modelsDirs` and of their extra_model_paths.yaml. */
export interface ScanOptions extends SearchOptions {
  readonly only?: boolean;
}

/** Scans the folders of models, the Hugging Face cache included. */
export async function scanModels({ only = false, ...options }: ScanOptions = {}): Promise<Scan> {
  const { places, problems } = await modelPlaces(options);
  const isNamed = ({ source }: Place) => source === "models_dir" || source === "extra_model_paths.yaml";
  const roots = only ? places.filter(isNamed) : [...places, { folder: hubCacheFolder(), source: "Hugging Face cache" }];
  const catalog = await readCatalog();
  const [folders, files] = [new Set<string>(), new Set<string>()];
  const found: ScannedFile[] = [];
  const visited: string[] = [];
  for (const { folder: root, source } of roots) {
    for await (const { folder, files: names } of walkModels(root, folders)) {
      if (!visited.includes(root)) visited.push(root);
      for (const name of shown(names)) {
        const path = join(folder, name);
        const real = await realpath(path);
        if (files.has(real)) continue;
        files.add(real);
        const file = await inspect(path, { source, catalog });
        if (file === undefined) continue;
        found.push(file);
      }
    }
  }
  return { folders: visited, files: found, problems };
}

/** Throws QEDIT_E_USAGE for what is no folder, and QEDIT_E_IO for a folder that cannot be read. */
export async function refuseUnscannable(folder: string): Promise<void> {
  try {
    await readdir(folder);
  } catch (cause) {
    if (!["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException).code ?? ""))
      throw ioFailure("read", folder, cause);
    throw new QeditError("QEDIT_E_USAGE", `Cannot scan ${folder}: there is no such folder`, {
      hint: "`qedit inspect FILE` says what one file is",
      cause,
    });
  }
}

/** Identifies one file; undefined for files that only look like models by their name. */
async function inspect(
  path: string,
  { source, catalog }: { source: string; catalog: Catalog },
): Promise<ScannedFile | undefined> {
  const bytes = await bytesOf(path);
  const { models, publishedBytes } = cataloguedAs(path, catalog);
  const claimed = models.length === 0 ? claimedRelease(path) : undefined;
  const facts = {
    path,
    bytes,
    source,
    models,
    ...(claimed === undefined ? {} : { claimed }),
    ...(publishedBytes === undefined || publishedBytes === bytes ? {} : { publishedBytes }),
  };
  if (!/\.(safetensors|sft|json|gguf)$/i.test(path)) {
    const refused = await foreignKind(path);
    return refused === undefined ? undefined : { ...facts, refused };
  }
  try {
    return { ...facts, identity: await examine(await openCheckpoint(path)) };
  } catch (error) {
    return { ...facts, refused: error instanceof Error ? error.message : String(error) };
  }
}

// Catalogue entries with a file of this name, and its published length.
function cataloguedAs(path: string, catalog: Catalog): { models: string[]; publishedBytes: number | undefined } {
  const isIt = ({ file }: PublishedFile) => file === basename(path);
  const found = [...catalog.models.values()].flatMap(({ name, files, loras }) => [
    ...Object.values(files)
      .filter(isIt)
      .map((file) => ({ name, file })),
    ...Object.entries(loras).flatMap(([lora, file]) => (isIt(file) ? [{ name: `${name} ${lora}`, file }] : [])),
  ]);
  return { models: found.map(({ name }) => name), publishedBytes: found[0]?.file.bytes };
}

// From names such as Qwen-Image-Edit-2509-Q8 or models--Qwen--Qwen-Image-Edit-2511; not verified, hence a claim.
function claimedRelease(path: string): string | undefined {
  const claims = [...path.matchAll(/qwen[-_. ]?image[-_. ]?(edit|layered)?(?:[-_. ]?plus)?[-_. ]?(2[56]\d\d)?/gi)];
  const [, variant, release] = claims.at(-1) ?? [];
  if (variant === undefined && release === undefined) return undefined;
  return [
    "Qwen-Image",
    ...(variant === undefined ? [] : [variant[0]!.toUpperCase() + variant.slice(1).toLowerCase()]),
    ...(release === undefined ? [] : [release]),
  ].join("-");
}

// Shards are shown as their index, once.
function shown(names: readonly string[]): string[] {
  const hasIndex = names.some((name) => INDEX.test(name));
  return names.filter((name) => (hasIndex ? !SHARD.test(name) : true) && (INDEX.test(name) || !name.endsWith(".json")));
}

async function bytesOf(path: string): Promise<number> {
  if (!INDEX.test(path)) return (await stat(path)).size;
  const shards = await shardsOf(path).catch(() => new Map<string, readonly string[]>());
  const sizes = await Promise.all(
    [...shards.keys()].map((shard) =>
      stat(shard).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

// Pickles by their content, since .bin may be anything.
async function foreignKind(path: string): Promise<string | undefined> {
  const handle = await open(path);
  try {
    const start = new Uint8Array(MAGIC_BYTES);
    const { bytesRead } = await handle.read(start, 0, MAGIC_BYTES, 0);
    const isOne = isPickle(start.subarray(0, bytesRead)) || /\.(ckpt|pth?)$/i.test(path);
    return isOne ? "a Python pickle, which can run any code when it is opened: find it as .safetensors" : undefined;
  } finally {
    await handle.close();
  }
}
