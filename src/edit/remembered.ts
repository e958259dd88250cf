// Where files of earlier edits lay on this machine, by hash or identity, so that a picture can be made again without naming them.
// Only a hint: whoever takes a path from here checks the file. Kept small, and never worth failing for.
import { readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { ArtifactInfo } from "../artifacts/artifact.js";
import { parseLora } from "../stages/networks/loras.js";
import type { Picture } from "../stages/pictures.js";
import { writeFileAtomically } from "../std/files.js";
import { folderFor } from "../std/own-folders.js";

/** The longest unseen go beyond this. */
const MOST_FILES = 2000;

/** Model files of an edit as its settings name them. */
export interface NamedWeights {
  readonly vae?: string | undefined;
  readonly textEncoder?: string | undefined;
  readonly transformer?: string | undefined;
  readonly lora?: readonly string[];
  readonly mask?: string | undefined;
}

/** Remembers where the inputs and weights of an edit lie. A state folder that cannot be written is left alone. */
export async function rememberFiles(
  { inputs, weights }: ArtifactInfo,
  pictures: readonly Picture[],
  named: NamedWeights,
): Promise<void> {
  const keys = { ...weights, ...inputs };
  const fresh = Object.entries(filesOf(pictures, named)).flatMap(([role, path]) =>
    keys[role] === undefined ? [] : [[keys[role], resolve(path)] as const],
  );
  const known = await readFiles();
  if (fresh.every(([key, path]) => known.get(key) === path)) return;
  for (const [key, path] of fresh) {
    known.delete(key);
    known.set(key, path);
  }
  const text = JSON.stringify({ version: 1, files: Object.fromEntries([...known].slice(-MOST_FILES)) });
  await writeFileAtomically(stateFile(), new TextEncoder().encode(`${text}\n`)).catch(() => {});
}

/** The record of an edit with the names of its own files, where a result of an earlier one was taken whose equal files had others. */
export function withOwnNames(info: ArtifactInfo, pictures: readonly Picture[], named: NamedWeights): ArtifactInfo {
  const own = filesOf(pictures, named);
  const names = Object.entries(info.names ?? {}).map(
    ([role, name]) => [role, own[role] === undefined ? name : basename(own[role])] as const,
  );
  return { ...info, names: Object.fromEntries(names) };
}

// Paths by the roles of records; a picture from stdin has none.
function filesOf(
  pictures: readonly Picture[],
  { vae, textEncoder, transformer, lora = [], mask }: NamedWeights,
): Readonly<Record<string, string>> {
  const files: readonly (readonly [string, string | undefined])[] = [
    ...pictures.map(({ name }, index) => [`image.${index + 1}`, name === "stdin" ? undefined : name] as const),
    ["mask", mask],
    ["vae", vae],
    ["text_encoder", textEncoder],
    ["transformer", transformer],
    ...lora.map((written, index) => [`lora.${index}`, parseLora(written).path] as const),
  ];
  return Object.fromEntries(files.flatMap(([role, path]) => (path === undefined ? [] : [[role, path]])));
}

/** Where the file of a hash or identity lay last; undefined when nobody saw it. */
export async function rememberedFile(key: string): Promise<string | undefined> {
  return (await readFiles()).get(key);
}

function stateFile(): string {
  return join(folderFor("state"), "files.json");
}

async function readFiles(): Promise<Map<string, string>> {
  try {
    const { files } = JSON.parse(await readFile(stateFile(), "utf8")) as { files: Record<string, string> };
    return new Map(Object.entries(files).filter(([, path]) => typeof path === "string"));
  } catch {
    return new Map();
  }
}
