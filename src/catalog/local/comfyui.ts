// ComfyUI's extra_model_paths.yaml: further folders of models, grouped by tool, read as ComfyUI reads it
// (utils/extra_config.py of ComfyUI v0.3.64).
import { homedir } from "node:os";
import { dirname, isAbsolute, join, normalize, resolve } from "node:path";
import { QeditError } from "../../std/errors.js";
import { readTextFile } from "../../std/files.js";
import { isObject } from "../../std/guards.js";

/** Bytes of a file, and folders that it may name: people have dozens, and each is searched. */
const MAX_BYTES = 1e6;
const MAX_FOLDERS = 1000;
/** Keys of a group that name no folder of models. */
const SETTINGS = ["base_path", "is_default"];
/** Folders that never hold what qedit reads. */
const FOREIGN = ["custom_nodes", "download_model_base"];

/** The folders that a file names, none when there is no such file; `problem` says why a file that is there could not be read. */
export async function readExtraPaths(file: string): Promise<{ folders: readonly string[]; problem?: string }> {
  try {
    const written = await readTextFile(file, MAX_BYTES);
    // Few have such a file, and the parser takes a while to load.
    const { parse } = await import("yaml");
    const groups: unknown = parse(written);
    const folders = values(groups).flatMap((group) => foldersOf(group, dirname(file)));
    const named = [...new Set(folders)];
    return named.length <= MAX_FOLDERS
      ? { folders: named }
      : {
          folders: [],
          problem: `Cannot read ${file}: it names ${named.length} folders, at most ${MAX_FOLDERS} are searched`,
        };
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return { folders: [] };
    const [reason] = (error instanceof Error ? error.message : String(error)).split("\n");
    return { folders: [], problem: error instanceof QeditError ? reason! : `Cannot read ${file}: ${reason}` };
  }
}

function foldersOf(group: unknown, yamlFolder: string): string[] {
  if (!isObject(group)) return [];
  const written = group["base_path"];
  const base = typeof written === "string" ? resolve(yamlFolder, expand(written)) : undefined;
  return Object.entries(group)
    .filter(([key]) => !SETTINGS.includes(key) && !FOREIGN.includes(key))
    .flatMap(([, value]) => lines(value))
    .map((line) => normalize(base !== undefined && !isAbsolute(line) ? join(base, line) : resolve(yamlFolder, line)));
}

// One folder, several of them in a block of lines, or a list.
function lines(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(lines);
  if (typeof value !== "string") return [];
  return value
    .split("\n")
    .map((line) => expand(line.trim()))
    .filter((line) => line !== "");
}

// Variables and a leading ~, as os.path.expandvars and expanduser replace them.
function expand(path: string): string {
  const replaced = path.replace(
    /\$\{(\w+)\}|\$(\w+)|%(\w+)%/g,
    (whole, a?: string, b?: string, c?: string) => process.env[a ?? b ?? c ?? ""] ?? whole,
  );
  return replaced.replace(/^~(?=$|[/\\])/, homedir());
}

function values(value: unknown): unknown[] {
  return isObject(value) ? Object.values(value) : [];
}
