// `models verify`: whether files are complete, of the named network, and of the published hash.
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { openCheckpoint, openPart } from "../../checkpoint/open.js";
import { fileHash } from "../../std/file-hash.js";
import { readReceipt } from "../download/receipt.js";
import { FILE_ROLES, type FileRole, type PublishedFile, publishedModel, readCatalog } from "../published/models.js";
import { examine, PART_OF } from "./examine.js";
import type { Finder } from "./find.js";
import type { Identity, NetworkKind } from "./identify.js";
import { isFolder } from "./model-folders.js";

/** A file to verify, with its published entry and its path. */
export interface VerifyItem {
  /** Undefined for files that the catalogue does not have. */
  readonly file: PublishedFile | undefined;
  readonly kind: NetworkKind | undefined;
  readonly path: string | undefined;
}

/** The result of a check; `problem` is undefined when the file is good. */
export interface Verified {
  readonly file: string;
  readonly path: string | undefined;
  readonly identity?: Identity;
  readonly sha256?: string;
  /** What the hash was compared with. */
  readonly compared: "published" | "download" | "nothing";
  readonly problem?: string;
}

const KIND: Readonly<Record<FileRole, NetworkKind>> = {
  vae: "vae",
  textEncoder: "text-encoder",
  transformer: "transformer",
};

/** The files of a model: its three parts, and those of its LoRAs that are on disk. */
export async function filesOf(name: string | undefined, find: Finder): Promise<VerifyItem[]> {
  const { files, loras } = await publishedModel(name);
  const parts = FILE_ROLES.map(async (role) => ({
    file: files[role],
    kind: KIND[role],
    path: await find(files[role]),
  }));
  const extras = Object.values(loras).map(async (file) => ({ file, kind: "lora" as const, path: await find(file) }));
  return [...(await Promise.all(parts)), ...(await Promise.all(extras)).filter(({ path }) => path !== undefined)];
}

/** The files at a path: one file, a folder with one checkpoint, or a model folder with one for each part. */
export async function filesAt(path: string): Promise<VerifyItem[]> {
  const folders = FILE_ROLES.map((role) => ({ kind: KIND[role], path: join(path, PART_OF[KIND[role]]!) }));
  const parts = await Promise.all(
    folders.map(async (part) => ((await isFolder(part.path)) ? [{ file: undefined, ...part }] : [])),
  );
  return parts.flat().length > 0 ? parts.flat() : [await fileAt(path)];
}

// The catalogue's file, if one is published under this name.
async function fileAt(path: string): Promise<VerifyItem> {
  const { models } = await readCatalog();
  for (const { files, loras } of models.values()) {
    const role = FILE_ROLES.find((each) => files[each].file === basename(path));
    if (role !== undefined) return { file: files[role], kind: KIND[role], path };
    const lora = Object.values(loras).find(({ file }) => file === basename(path));
    if (lora !== undefined) return { file: lora, kind: "lora", path };
  }
  return { file: undefined, kind: undefined, path };
}

/** Checks the header, network, length and hash of a file; `onProgress` takes the bytes hashed so far. Throws the reason of the signal. */
export async function verifyFile(
  { file, kind, path }: VerifyItem,
  options: { signal: AbortSignal; onProgress?: (done: number, total: number) => void },
): Promise<Verified> {
  const name = file?.file ?? basename(path ?? "");
  const bad = (problem: string, more: Partial<Verified> = {}): Verified => ({
    file: name,
    path,
    compared: "nothing",
    ...more,
    problem,
  });
  if (path === undefined) return bad("it is not on disk");
  const header = await readHeader(path, kind).catch((error: unknown) => {
    if (error instanceof Error) return error.message;
    throw error;
  });
  if (typeof header === "string") return bad(header);
  if (kind !== undefined && header.kind !== kind)
    return bad(`a ${kind} is wanted, it is ${header.kind === "other" ? "of another model" : `a ${header.kind}`}`, {
      identity: header,
    });
  if (header.refusal !== undefined) return bad(header.refusal, { identity: header });
  const found = await stat(path);
  if (found.isDirectory() || path.endsWith(".json")) return { file: name, path, identity: header, compared: "nothing" };
  if (file !== undefined && found.size !== file.bytes) {
    return bad(
      `it has ${found.size} bytes, ${file.bytes} were published: another release of the file, or another file`,
      { identity: header },
    );
  }
  const { onProgress = () => {}, signal } = options;
  const sha256 = await fileHash(path, { signal, onProgress: (done) => onProgress(done, found.size) });
  const receipt = file?.sha256 === undefined ? await readReceipt(path) : undefined;
  const wanted = file?.sha256 ?? receipt?.sha256;
  const compared = file?.sha256 !== undefined ? "published" : receipt !== undefined ? "download" : "nothing";
  if (wanted !== undefined && wanted !== sha256)
    return bad(`its SHA-256 is ${sha256}, ${wanted} is wanted`, { identity: header, sha256, compared });
  return { file: name, path, identity: header, sha256, compared };
}

async function readHeader(path: string, kind: NetworkKind | undefined): Promise<Identity> {
  const part = kind === undefined ? undefined : PART_OF[kind];
  return examine(part === undefined ? await openCheckpoint(path) : await openPart(path, part));
}
