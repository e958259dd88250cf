// Where files of earlier edits lay on this machine, by hash or identity, so that a picture can be made again without naming them.
// Only a hint: whoever takes a path from here checks the file. Kept small, and never worth failing for.
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import { filesByRole, type OwnFiles } from "../../edit/recipe/own-files.js";
import { writeFileAtomically } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

/** The longest unseen go beyond this. */
const MOST_FILES = 2000;

/** Keeps where the inputs and weights of an edit lie. Ignores a state folder that cannot be written: the file history is optional. */
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
  const text = JSON.stringify({ version: 1, files: Object.fromEntries([...known].slice(-MOST_FILES)) });
  await writeFileAtomically(stateFile(), new TextEncoder().encode(`${text}\n`)).catch(() => {});
}

/** Where the file of a hash or identity lay last; undefined when it was never seen. */
export async function lastPathOf(key: string): Promise<string | undefined> {
  return (await readPaths()).get(key);
}

function stateFile(): string {
  return join(folderFor("state"), "files.json");
}

async function readPaths(): Promise<Map<string, string>> {
  try {
    const { files } = JSON.parse(await readFile(stateFile(), "utf8")) as { files: Record<string, string> };
    return new Map(Object.entries(files).filter(([, path]) => typeof path === "string"));
  } catch {
    return new Map();
  }
}
