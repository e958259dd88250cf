// The SHA-256 of a model file where it is known without reading the file: by qedit's receipt, by its name in the Hugging Face cache, or by the
// catalogue for a file inside qedit's own package.

import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PACKAGE_ROOT } from "../../std/package-files.js";
import { readReceipt } from "../download/receipt.js";
import { FILE_ROLES, readCatalog } from "../published/models.js";

/** Hexadecimal SHA-256 of a file; undefined where nothing says it. */
export async function knownHash(path: string): Promise<string | undefined> {
  const [receipt, found] = [await readReceipt(path), await stat(path).catch(() => undefined)];
  if (receipt !== undefined && found?.isFile() && found.size === receipt.bytes) return receipt.sha256;
  return (await blobHash(path)) ?? embeddedHash(path);
}

// Large files of the cache are links to blobs that are called by their hash.
async function blobHash(path: string): Promise<string | undefined> {
  const file = await realpath(path).catch(() => "");
  const isBlob = basename(dirname(file)) === "blobs" && /^[0-9a-f]{64}$/.test(basename(file));
  return isBlob ? basename(file) : undefined;
}

async function embeddedHash(path: string): Promise<string | undefined> {
  const { models } = await readCatalog();
  const files = [...models.values()].flatMap(({ files, loras }) => [
    ...FILE_ROLES.map((role) => files[role]),
    ...Object.values(loras),
  ]);
  return files.find((file) => "embedded" in file && join(PACKAGE_ROOT, file.embedded) === path)?.sha256;
}
