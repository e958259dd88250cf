// Walking folders of models: every folder with the model files in it, links followed, nothing visited twice.
import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";

/** A folder with the names of its model files and of the indexes of sharded ones, sorted. */
export interface ModelFolder {
  readonly folder: string;
  readonly files: readonly string[];
}

/** Deeper than tools nest their folders; deeper folders are not visited. */
const DEEPEST = 8;
/** Folders of programs, not of models. */
const SKIPPED = new Set([
  "node_modules",
  "custom_nodes",
  "venv",
  "__pycache__",
  "site-packages",
  "output",
  "input",
  "temp",
  "blobs",
  "refs",
]);
const MODEL_FILE = /\.(safetensors|sft|gguf|ckpt|pt|pth|bin|safetensors\.index\.json)$/i;

/** Every folder below and including `root` that holds model files, parents first; a folder that cannot be read counts as empty. */
export async function* walkModels(root: string, seen: Set<string> = new Set(), depth = 0): AsyncGenerator<ModelFolder> {
  const real = await realpath(root).catch(() => undefined);
  if (real === undefined || seen.has(real) || depth > DEEPEST) return;
  seen.add(real);
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const files: string[] = [];
  const folders: string[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const kind = entry.isSymbolicLink() ? await stat(join(root, entry.name)).catch(() => undefined) : entry;
    if (kind?.isFile() && MODEL_FILE.test(entry.name)) files.push(entry.name);
    if (kind?.isDirectory() && !entry.name.startsWith(".") && !SKIPPED.has(entry.name)) folders.push(entry.name);
  }
  if (files.length > 0) yield { folder: root, files };
  for (const folder of folders) yield* walkModels(join(root, folder), seen, depth + 1);
}
