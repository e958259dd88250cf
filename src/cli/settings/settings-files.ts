// Reads the settings files: qedit.json in the working directory or the nearest folder above it, and the user's config.json.
import { dirname, join, resolve } from "node:path";
import { QeditError } from "../../std/errors.js";
import { readTextFile } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

/** Name of the project's file. */
export const PROJECT_FILE = "qedit.json";

/** Bytes of a settings file; a hundred lines have a few thousand. */
const MAX_BYTES = 1e6;

/** An existing settings file; an object under a command's name is that command's section. */
export interface SettingsFile {
  readonly path: string;
  readonly layer: "project file" | "user file";
  readonly values: Readonly<Record<string, unknown>>;
}

/** Path of the user's file, whether it exists or not. */
export function userFile(): string {
  return join(folderFor("config"), "config.json");
}

/** The files that exist, the strongest first. Throws QEDIT_E_USAGE for one that is not a JSON object. */
export async function readSettingsFiles(folder = process.cwd()): Promise<SettingsFile[]> {
  const files: SettingsFile[] = [];
  const project = await nearest(folder);
  if (project !== undefined) files.push({ ...project, layer: "project file" });
  const user = await readJson(userFile());
  if (user !== undefined) files.push({ path: userFile(), values: user, layer: "user file" });
  return files;
}

async function nearest(folder: string): Promise<Omit<SettingsFile, "layer"> | undefined> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    const path = join(at, PROJECT_FILE);
    const values = await readJson(path);
    if (values !== undefined) return { path, values };
    if (dirname(at) === at) return undefined;
  }
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readTextFile(path, MAX_BYTES);
  } catch (error) {
    const { code } = ((error as QeditError).cause ?? {}) as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
  try {
    const values: unknown = JSON.parse(text);
    if (typeof values === "object" && values !== null && !Array.isArray(values))
      return values as Record<string, unknown>;
  } catch (cause) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot read the settings in ${path}: ${(cause as Error).message}`, {
      hint: 'It holds one JSON object, such as { "steps": 8 }',
      cause,
    });
  }
  throw new QeditError("QEDIT_E_USAGE", `Cannot read the settings in ${path}: it is not a JSON object`, {
    hint: 'Write, for example, { "steps": 8 }',
  });
}
