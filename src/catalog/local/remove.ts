// `models rm`: removes files that qedit downloaded itself, and no others.
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { ioFailure } from "../../std/files.js";
import { bytesLeft, removePart } from "../download/part.js";
import { readReceipt, removeReceipt } from "../download/receipt.js";
import { FILE_ROLES, type PublishedFile, publishedModel, readCatalog } from "../published/models.js";
import { namedPlaces, type SearchOptions, subfolders } from "./model-folders.js";

/** A file that may be removed: a download, or what an interrupted one left. */
export interface Removable {
  readonly path: string;
  readonly bytes: number;
  readonly isPart?: boolean;
}

/** What of a model can be removed, and why the rest stays. */
export interface RemovalPlan {
  readonly removable: readonly Removable[];
  readonly kept: readonly { readonly file: string; readonly reason: string }[];
}

/**
 * Finds what of a model qedit downloaded. A file that another model shares stays while the transformer of that model is there.
 * Throws QEDIT_E_USAGE for an unknown name.
 */
export async function planRemoval(name: string, options: SearchOptions): Promise<RemovalPlan> {
  const model = await publishedModel(name);
  const own = [...FILE_ROLES.map((role) => model.files[role]), ...Object.values(model.loras)];
  const others = [...(await readCatalog()).models.values()].filter((other) => other.name !== model.name);
  const removable: Removable[] = [];
  const kept: { file: string; reason: string }[] = [];
  for (const file of own) {
    removable.push(...(await partsOf(file, options)));
    const found = await downloaded(file, options);
    if (found === undefined) continue;
    const user = await firstAsync(
      others,
      async ({ files }) =>
        files.transformer.file !== file.file &&
        uses(files, file) &&
        (await downloaded(files.transformer, options)) !== undefined,
    );
    if ("reason" in found) kept.push({ file: found.path, reason: found.reason });
    else if (user) kept.push({ file: found.path, reason: `${user.name} uses it too` });
    else removable.push(found);
  }
  return { removable, kept };
}

/** Removes a file and its receipt, or a part and its journal. Throws QEDIT_E_IO. */
export async function removeFile({ path, isPart = false }: Removable): Promise<void> {
  if (isPart) return removePart(path.slice(0, -".part".length));
  if ((await readReceipt(path)) === undefined)
    throw new QeditError("QEDIT_E_IO", `Cannot remove ${path}: qedit did not download it`);
  try {
    await rm(path);
    await removeReceipt(path);
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

// Parts of interrupted downloads of a file.
async function partsOf({ file, bytes }: PublishedFile, options: SearchOptions): Promise<Removable[]> {
  const targets = namedPlaces(options)
    .flatMap(subfolders)
    .map((folder) => join(folder, file));
  const parts = await Promise.all(
    targets.map(async (target) => ({ path: `${target}.part`, bytes: await bytesLeft(target, bytes), isPart: true })),
  );
  return parts.filter((part) => part.bytes > 0);
}

// Only in the folders that pull writes to, not in those of other tools.
async function downloaded(
  { file, bytes }: PublishedFile,
  options: SearchOptions,
): Promise<Removable | (Removable & { reason: string }) | undefined> {
  for (const folder of namedPlaces(options).flatMap(subfolders)) {
    const path = join(folder, file);
    const size = await stat(path).then(
      (found) => found.size,
      () => undefined,
    );
    if (size === undefined) continue;
    const receipt = await readReceipt(path);
    if (receipt === undefined) return { path, bytes: size, reason: "qedit did not download it" };
    return receipt.bytes === size
      ? { path, bytes }
      : { path, bytes: size, reason: "it changed after qedit downloaded it" };
  }
  return undefined;
}

function uses(files: Readonly<Record<string, PublishedFile>>, { file }: PublishedFile): boolean {
  return Object.values(files).some((each) => each.file === file);
}

async function firstAsync<T>(list: readonly T[], wanted: (item: T) => Promise<boolean>): Promise<T | undefined> {
  for (const item of list) if (await wanted(item)) return item;
  return undefined;
}
