// Made-up homes of models, in a home folder of their own: nothing of the machine's own is seen.

import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, vi } from "vitest";
import { fixture } from "../support/golden.js";

/** Variables that decide where models are looked for. */
const VARIABLES = [
  "QEDIT_MODELS",
  "QEDIT_HOME",
  "XDG_DATA_HOME",
  "XDG_CONFIG_HOME",
  "XDG_CACHE_HOME",
  "HF_HOME",
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "QEDIT_CATALOG",
];

/** A home folder for each test; gives paths in it. */
export function homeFolder(): { readonly at: (path: string) => string } {
  let home = "";
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), "qedit-home-"));
    for (const name of VARIABLES) vi.stubEnv(name, "");
    vi.stubEnv("HOME", home);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(home, { recursive: true, force: true });
  });
  return { at: (path) => join(home, path) };
}

/** Puts a tiny model file at a path, folders included. */
export async function place(path: string, file: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await cp(fixture(`tiny/${file}.safetensors`), path);
  return path;
}

/** Writes a text at a path, folders included. */
export async function note(path: string, text: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  return path;
}

/** Puts a file into a Hugging Face cache as its client does: a blob, and a link to it in a snapshot. */
export async function cached(
  cache: string,
  [repository, revision, path]: readonly [string, string, string],
  file: string,
): Promise<string> {
  const folder = join(cache, `models--${repository.replace("/", "--")}`);
  const blob = await place(join(folder, "blobs", `${file}-${path.length}`), file);
  const link = join(folder, "snapshots", revision, path);
  await mkdir(dirname(link), { recursive: true });
  await symlink(blob, link);
  await note(join(folder, "refs", "main"), revision);
  return link;
}
