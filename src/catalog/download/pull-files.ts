// `models pull`: plans and downloads the files of models that are not on disk yet.
import { basename, join, resolve } from "node:path";
import { decimalSize } from "../../std/byte-sizes.js";
import { param, QeditError } from "../../std/errors.js";
import { publishedFinder } from "../local/find.js";
import { ownModelsFolder, type SearchOptions } from "../local/model-folders.js";
import {
  FILE_ROLES,
  type FileRole,
  type HubFile,
  type PublishedFile,
  publishedLora,
  publishedModel,
} from "../published/models.js";
import { freeBytes } from "./disk.js";
import { type Downloaded, downloadFile, removeDownloadLeftovers } from "./download-file.js";
import type { FetchOptions } from "./fetch-file.js";
import { bytesLeft } from "./part.js";

/** Folders of ComfyUI's models directory, so that ComfyUI can be pointed at qedit's. */
const FOLDERS: Readonly<Record<FileRole | "lora", string>> = {
  vae: "vae",
  textEncoder: "text_encoders",
  transformer: "diffusion_models",
  lora: "loras",
};

/** What to pull: models by name, and LoRAs of each of them. */
export interface PullRequest extends SearchOptions {
  readonly models: readonly (string | undefined)[];
  readonly loras: readonly string[];
  /** Folder to put files in; qedit's own when undefined. */
  readonly folder?: string | undefined;
}

/** A file of a pull. */
export interface PullItem {
  readonly file: PublishedFile;
  /** Its path when it is on disk; undefined when it is to be downloaded. */
  readonly present: string | undefined;
  /** The path to download it to. */
  readonly target: string;
  /** Bytes to download. */
  readonly missing: number;
}

/** What a pull will do. */
export interface PullPlan {
  readonly items: readonly PullItem[];
  /** Bytes to download. */
  readonly bytes: number;
  /** Free bytes on the disk of the folder. */
  readonly free: number;
  readonly folder: string;
}

/** Plans a pull; nothing is written. Throws QEDIT_E_USAGE for unknown names. */
export async function planPull({
  models,
  loras,
  folder = ownModelsFolder(),
  modelsDirs = [],
}: PullRequest): Promise<PullPlan> {
  const wanted = new Map<string, { file: PublishedFile; kind: FileRole | "lora" }>();
  for (const name of models) {
    const { files } = await publishedModel(name);
    for (const kind of FILE_ROLES) wanted.set(files[kind].file, { file: files[kind], kind });
    for (const lora of loras) {
      const file = await publishedLora(lora, name);
      wanted.set(file.file, { file, kind: "lora" });
    }
  }
  const into = resolve(folder);
  const find = publishedFinder({ modelsDirs: [into, ...modelsDirs] });
  const items = await Promise.all(
    [...wanted.values()].map(async ({ file, kind }): Promise<PullItem> => {
      const target = join(into, FOLDERS[kind], file.file);
      const present = await find(file);
      const missing = present === undefined ? file.bytes - (await bytesLeft(target, file.bytes)) : 0;
      return { file, present, target, missing };
    }),
  );
  return {
    items,
    bytes: items.reduce((sum, { missing }) => sum + missing, 0),
    free: await freeBytes(into),
    folder: into,
  };
}

/** Downloads the missing files of a plan, one after the other. Throws QEDIT_E_IO when the disk has no space for all of them, and as downloadFile. */
export async function pull({ items, bytes, free, folder }: PullPlan, options: FetchOptions): Promise<Downloaded[]> {
  if (bytes > free) {
    throw new QeditError(
      "QEDIT_E_IO",
      `Cannot download to ${folder}: ${decimalSize(bytes)} are needed, ${decimalSize(free)} are free`,
      {
        hint: `Free some space, or choose another disk: ${param("models_dir", "FOLDER")}`,
      },
    );
  }
  const downloaded: Downloaded[] = [];
  for (const { file, present, target } of items) {
    if (present === undefined) downloaded.push(await downloadFile(hubFile(file), target, options));
    else if (present === target) await removeDownloadLeftovers(target, options);
  }
  return downloaded;
}

function hubFile(file: PublishedFile): HubFile {
  if ("repository" in file) return file;
  throw new Error(`internal: ${basename(file.embedded)} is part of the package and was not found in it`);
}
