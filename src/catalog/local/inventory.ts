// `models list` and `models show`: the published models, and which of their files are on disk.

import {
  FILE_ROLES,
  type FileRole,
  modelNames,
  type PublishedFile,
  type PublishedModel,
  publishedModel,
  readCatalog,
} from "../published/models.js";
import { type Finder, publishedFinder } from "./find.js";
import type { SearchOptions } from "./model-folders.js";

/** A published file and its path, if it is on disk. */
export interface Located {
  readonly file: PublishedFile;
  readonly path: string | undefined;
}

/** A model with its files as they are on this machine. */
export interface ModelOnDisk {
  readonly model: PublishedModel;
  readonly isDefault: boolean;
  readonly files: Readonly<Record<FileRole, Located>>;
  readonly loras: Readonly<Record<string, Located>>;
  /** Bytes of the three files together. */
  readonly bytes: number;
  /** Bytes of those that are not on disk. */
  readonly missing: number;
}

/** Every model of the catalogue with its files on this machine. */
export async function modelsOnDisk(options: SearchOptions): Promise<ModelOnDisk[]> {
  const { default: first, models } = await readCatalog();
  const find = publishedFinder(options);
  return Promise.all([...models.values()].map((model) => onDisk(model, { find, isDefault: model.name === first })));
}

/** One model, the default one when undefined. Throws QEDIT_E_USAGE for an unknown name. */
export async function modelOnDisk(name: string | undefined, options: SearchOptions): Promise<ModelOnDisk> {
  const model = await publishedModel(name);
  const [first] = await modelNames();
  return onDisk(model, { find: publishedFinder(options), isDefault: model.name === first });
}

async function onDisk(
  model: PublishedModel,
  { find, isDefault }: { readonly find: Finder; readonly isDefault: boolean },
): Promise<ModelOnDisk> {
  const located = async (file: PublishedFile): Promise<Located> => ({ file, path: await find(file) });
  const [vae, textEncoder, transformer] = (await Promise.all(FILE_ROLES.map((role) => located(model.files[role])))) as [
    Located,
    Located,
    Located,
  ];
  const loras = await Promise.all(
    Object.entries(model.loras).map(async ([lora, file]) => [lora, await located(file)] as const),
  );
  const all = [vae, textEncoder, transformer];
  return {
    model,
    isDefault,
    files: { vae, textEncoder, transformer },
    loras: Object.fromEntries(loras),
    bytes: sum(all),
    missing: sum(all.filter(({ path }) => path === undefined)),
  };
}

function sum(files: readonly Located[]): number {
  return files.reduce((total, { file }) => total + file.bytes, 0);
}
