// Finds model files on disk: by path, else by name in the models folders and the Hugging Face cache.

import { access } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { param, QeditError } from "../../std/errors.js";
import { PACKAGE_ROOT } from "../../std/package-files.js";
import { FILE_ROLES, type FileRole, type PublishedFile, publishedLora, publishedModel } from "../published/models.js";
import { findInHubCache, hubCacheFolder } from "./hub-cache.js";
import {
  isFolder,
  missingFolders,
  modelPlaces,
  namedPlaces,
  type SearchOptions,
  subfolders,
  usualFolders,
} from "./model-folders.js";
import { walkModels } from "./walk.js";

/** Paths of model files, as a user named them: some, or none. */
export type NamedFiles = { readonly [Role in FileRole]?: string | undefined };

/** What to find: the model by its name or as a diffusers folder, the roles, and where to look first. */
export interface ModelSearch extends SearchOptions {
  readonly model: string | undefined;
  readonly roles: readonly FileRole[];
}

/** Folders of a model in diffusers' layout. */
const DIFFUSERS_FOLDER = {
  vae: "vae",
  textEncoder: "text_encoder",
  transformer: "transformer",
} as const satisfies Record<FileRole, string>;

/** The path itself if it exists, else the file of that name in a models folder or in the Hugging Face cache, else undefined. */
export async function findFile(path: string, options: SearchOptions = {}): Promise<string | undefined> {
  if (!options.isInFolders && (await exists(path))) return path;
  if (isAbsolute(path)) return undefined;
  const { places } = await modelPlaces(options);
  for (const place of places.flatMap(subfolders)) {
    if (await exists(join(place, path))) return join(place, path);
  }
  // Then in the subfolders that users made.
  const seen = new Set<string>();
  for (const root of [...places.map(({ folder }) => folder), hubCacheFolder()]) {
    for await (const { folder, files } of walkModels(root, seen)) {
      if (files.includes(path)) return join(folder, path);
    }
  }
  return undefined;
}

/** Finds published files: the path, or undefined when the file is not on disk. */
export type Finder = (published: PublishedFile) => Promise<string | undefined>;

/**
 * A finder for many files: it asks once which of the usual folders and whether the Hugging Face cache are there, and walks the models folders at most
 * once, only when a file is in none of them.
 */
export function publishedFinder(options: SearchOptions = {}): Finder {
  let usual: Promise<readonly string[]> | undefined;
  let hasHubCache: Promise<boolean> | undefined;
  let walked: Promise<ReadonlyMap<string, string>> | undefined;
  return async (published) => {
    if ("embedded" in published) return join(PACKAGE_ROOT, published.embedded);
    usual ??= usualFolders(options);
    hasHubCache ??= isFolder(hubCacheFolder());
    const near = await findIn(await usual, published.file);
    const found = near ?? ((await hasHubCache) ? await findInHubCache(published) : undefined);
    if (found !== undefined) return found;
    walked ??= walkedFiles(options);
    return (await walked).get(published.file);
  };
}

async function findIn(folders: readonly string[], file: string): Promise<string | undefined> {
  for (const folder of folders) {
    if (await exists(join(folder, file))) return join(folder, file);
  }
  return undefined;
}

// Every model file below the places and in the Hugging Face cache, by its name; the first of several.
async function walkedFiles(options: SearchOptions): Promise<ReadonlyMap<string, string>> {
  const { places } = await modelPlaces(options);
  const found = new Map<string, string>();
  const seen = new Set<string>();
  for (const root of [...places.map(({ folder }) => folder), hubCacheFolder()]) {
    for await (const { folder, files } of walkModels(root, seen)) {
      for (const name of files) if (!found.has(name)) found.set(name, join(folder, name));
    }
  }
  return found;
}

/** Finds the files of the wanted roles: those the user named, the others from the model. Throws QEDIT_E_MODEL_MISSING. */
export async function findModelFiles(
  named: NamedFiles,
  { model, roles, ...options }: ModelSearch,
): Promise<NamedFiles> {
  if (model !== undefined && isPath(model)) return findInFolder(named, { folder: model, roles, ...options });
  const files: { [Role in FileRole]?: string } = {};
  const find = publishedFinder(options);
  for (const role of roles) {
    const given = named[role];
    // A model named beside files still has to exist.
    const published = given === undefined || model !== undefined ? await publishedModel(model) : undefined;
    files[role] =
      given === undefined
        ? await wanted(published!.files[role], { model: published!.name, find, options })
        : await findNamed(given, options);
  }
  return files;
}

/** The path of a file or folder that the user named. Throws QEDIT_E_MODEL_MISSING when there is none. */
export async function findNamed(path: string, options: SearchOptions = {}): Promise<string> {
  const found = await findFile(path, options);
  if (found !== undefined) return found;
  throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${path}`, {
    hint: `Check the path, or name its folder: export QEDIT_MODELS=FOLDER`,
  });
}

/** The path of a LoRA, named by a path, by a file name, or by its name in the catalogue. Throws QEDIT_E_MODEL_MISSING, and QEDIT_E_USAGE for a name that the catalogue lacks. */
export async function findLora(
  name: string,
  { model, ...options }: SearchOptions & { readonly model: string | undefined },
): Promise<string> {
  const found = await findFile(name, options);
  if (found !== undefined) return found;
  // Names of files have an extension or a folder, names of the catalogue have neither.
  if (/[./\\]/.test(name)) return findNamed(name, options);
  const known = model !== undefined && isPath(model) ? undefined : model;
  return wanted(await publishedLora(name, known), {
    model: (await publishedModel(known)).name,
    find: publishedFinder(options),
    options,
  });
}

async function wanted(
  published: PublishedFile,
  { model, find, options }: { model: string; find: Finder; options: SearchOptions },
): Promise<string> {
  const found = await find(published);
  if (found !== undefined) return found;
  const places = namedPlaces(options);
  const problems = await missingFolders(places);
  throw new QeditError(
    "QEDIT_E_MODEL_MISSING",
    `Cannot find ${published.file} (${gigabytes(published.bytes)}) of model ${model} in ${places.map(({ folder }) => folder).join(" or ")}${problems.map((problem) => `. ${problem}`).join("")}`,
    {
      hint: `Download it: qedit models pull ${model}, or name the folder where it is: export QEDIT_MODELS=/path/to/ComfyUI/models; to try qedit at once, use ${param("model", "tiny")}`,
    },
  );
}

function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

async function findInFolder(
  named: NamedFiles,
  { folder, roles, ...options }: { folder: string; roles: readonly FileRole[] } & SearchOptions,
): Promise<NamedFiles> {
  const files: { [Role in FileRole]?: string } = {};
  for (const role of FILE_ROLES.filter((each) => roles.includes(each))) {
    const given = named[role];
    files[role] = given === undefined ? join(folder, DIFFUSERS_FOLDER[role]) : await findNamed(given, options);
    if (given === undefined && !(await isFolder(files[role]))) {
      throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${DIFFUSERS_FOLDER[role]} in ${folder}`, {
        hint: `${param("model")} takes a name of models.json, or a folder that holds vae, text_encoder and transformer: qedit models list`,
      });
    }
  }
  return files;
}

// Names in the catalogue have no slash.
function isPath(model: string): boolean {
  return /[/\\]/.test(model) || model === "." || model === "..";
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
