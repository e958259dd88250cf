// Folders that are searched for models: those that the user named, qedit's own, and those of other tools, all used in place.
import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import { param } from "../../std/errors.js";
import { folderFor } from "../../std/own-folders.js";
import { readExtraPaths } from "./comfyui.js";

/** A folder that is searched, and why. */
export interface Place {
  readonly folder: string;
  /** The parameter `models_dir`, the variable `QEDIT_MODELS`, `qedit` for its own folder, or the tool: `ComfyUI`, … */
  readonly source: string;
}

/** Folders that are searched, with settings files that could not be read and named folders that are not there. */
export interface Places {
  readonly places: readonly Place[];
  readonly problems: readonly string[];
}

/** Folders that the user named for this call, searched before all others. */
export interface SearchOptions {
  readonly modelsDirs?: readonly string[];
  /** Whether names are looked up in the folders only, never as paths: they came over a network. */
  readonly isInFolders?: boolean;
}

/** The source of qedit's own folder. */
const OWN = "qedit";

/** ComfyUI's names of the folders of a models directory, then A1111's and Forge's. */
const CATEGORIES = [
  "vae",
  "text_encoders",
  "clip",
  "diffusion_models",
  "unet",
  "loras",
  "checkpoints",
  "VAE",
  "text_encoder",
  "Stable-diffusion",
  "Lora",
  "LyCORIS",
];

/** Default folders of other tools, below the home folder. */
const TOOLS: readonly (readonly [folder: string, source: string])[] = [
  ["ComfyUI", "ComfyUI"],
  ["comfy/ComfyUI", "ComfyUI"],
  ["Documents/ComfyUI", "ComfyUI"],
  ["stable-diffusion-webui", "A1111"],
  ["stable-diffusion-webui-forge", "Forge"],
  ["sd-webui-forge-neo", "Forge"],
];

/** Folders to search, in order: named ones, QEDIT_MODELS, qedit's own, then those of other tools that exist. */
export async function modelPlaces({ modelsDirs = [] }: SearchOptions = {}): Promise<Places> {
  const tools = TOOLS.map(([folder, source]) => ({ folder: join(homedir(), folder), source }));
  const places: Place[] = [...namedPlaces({ modelsDirs }), ...(await keep(tools, ({ folder }) => isFolder(folder)))];
  const problems = await missingFolders(namedPlaces({ modelsDirs }));
  for (const { file, source } of extraPathFiles(places)) {
    const { folders, problem } = await readExtraPaths(file);
    for (const folder of folders) places.push({ folder, source });
    if (problem !== undefined) problems.push(problem);
  }
  return {
    places: places.filter(({ folder }, index) => places.findIndex((other) => other.folder === folder) === index),
    problems,
  };
}

/** Folders that the user named, and qedit's own: those that a message about a missing file lists. */
export function namedPlaces({ modelsDirs = [] }: SearchOptions = {}): Place[] {
  const variable = (process.env["QEDIT_MODELS"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return [
    ...modelsDirs.map((folder) => ({ folder: resolve(folder), source: "models_dir" })),
    ...variable.map((folder) => ({ folder: resolve(folder), source: "QEDIT_MODELS" })),
    { folder: ownModelsFolder(), source: OWN },
  ];
}

/** A sentence for each folder that the user named and that is not there. */
export async function missingFolders(places: readonly Place[]): Promise<string[]> {
  const named = places.filter(({ source }) => source !== OWN);
  const missing = await keep(named, async ({ folder }) => !(await isFolder(folder)));
  return missing.map(({ folder, source }) => {
    const by = source === "QEDIT_MODELS" ? source : param(source);
    return `Cannot search ${folder} for models, which ${by} names: there is no such folder`;
  });
}

/** Folders of a place that are searched for a file by name, the place itself first. */
export function subfolders({ folder }: Place): string[] {
  const roots = [folder, join(folder, "models")];
  return roots.flatMap((root) => [root, ...CATEGORIES.map((category) => join(root, category))]);
}

/** Those subfolders of all places that are there. */
export async function usualFolders(options: SearchOptions): Promise<readonly string[]> {
  const { places } = await modelPlaces(options);
  return keep(places.flatMap(subfolders), isFolder);
}

/** The default folder of `models pull`. */
export function ownModelsFolder(): string {
  return join(folderFor("data"), "models");
}

// ComfyUI reads extra_model_paths.yaml of its own folder; its desktop application keeps one among its settings.
function extraPathFiles(places: readonly Place[]): { file: string; source: string }[] {
  const folders = places.flatMap(({ folder }) => (basename(folder) === "models" ? [dirname(folder)] : [folder]));
  const settings = {
    win32: process.env["APPDATA"] ?? join(homedir(), "AppData", "Roaming"),
    darwin: join(homedir(), "Library", "Application Support"),
  };
  const desktop = join(
    settings[process.platform as keyof typeof settings] ??
      (process.env["XDG_CONFIG_HOME"] || join(homedir(), ".config")),
    "ComfyUI",
  );
  return [
    ...folders.map((folder) => ({ file: join(folder, "extra_model_paths.yaml"), source: "extra_model_paths.yaml" })),
    { file: join(desktop, "extra_models_config.yaml"), source: "ComfyUI's settings" },
  ];
}

/** Whether a folder of this path exists. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Whether a file of this path exists, or a link to one. */
export async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

async function keep<T>(list: readonly T[], wanted: (item: T) => Promise<boolean>): Promise<T[]> {
  const isWanted = await Promise.all(list.map(wanted));
  return list.filter((_, index) => isWanted[index]);
}
