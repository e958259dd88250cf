// A history of file paths of earlier edits, by hash or identity, so that `rerun` finds them. Only hints: callers check the file's content.
// The history is limited in size and optional.
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as v from "valibot";
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import { filesByRole, type OwnFiles } from "../../edit/recipe/own-files.js";
import { writeFileAtomically } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

/** Longest history; the least recently used paths are dropped. */
const MAX_FILES = 2000;

/** Stores the paths of an edit's inputs and weights. Ignores a state folder that cannot be written: the history is optional. */
export async function keepFilePaths({ inputs, weights }: ArtifactInfo, own: OwnFiles): Promise<void> {
  const keys = { ...weights, ...inputs };
  const fresh = Object.entries(filesByRole(own)).flatMap(([role, path]) =>
    keys[role] === undefined ? [] : [[keys[role], resolve(path)] as const],
  );
  const known = await readPaths();
  if (fresh.every(([key, path]) => known.get(key) === path)) return;
  for (const [key, path] of fresh) {
    known.delete(key);
    known.set(key, path);
  }
  const text = JSON.stringify({ version: 1, files: Object.fromEntries([...known].slice(-MAX_FILES)) });
  await writeFileAtomically(stateFile(), new TextEncoder().encode(`${text}\n`), { isPrivate: true }).catch(() => {});
}

/** The last known path of the file of a hash or identity; undefined if unknown. */
export async function lastPathOf(key: string): Promise<string | undefined> {
  return (await readPaths()).get(key);
}

function stateFile(): string {
  return join(folderFor("state"), "files.json");
}

const stateSchema = v.object({ files: v.record(v.string(), v.unknown()) });

async function readPaths(): Promise<Map<string, string>> {
  try {
    const { files } = v.parse(stateSchema, JSON.parse(await readFile(stateFile(), "utf8")));
    return new Map(Object.entries(files).flatMap(([key, path]) => (typeof path === "string" ? [[key, path]] : [])));
  } catch {
    return new Map();
  }
}
