// Repacked weights in qedit's data folder: made once from a quantised file, used as long as that file is the same, listed and removed by `qedit models`.
import type { Stats } from "node:fs";
import { type FileHandle, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { type RepackedFile, repackedFolder } from "../../checkpoint/packed/packed-layout.js";
import { writeRepacked } from "../../checkpoint/packed/repack.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { fileHash } from "../../std/file-hash.js";
import { ioFailure, makeFolders, readRange, streamAtomically, writeFileAtomically } from "../../std/files.js";
import { withLock } from "../../std/lock.js";
import { freeBytes } from "../download/disk.js";

/** Milliseconds between two events of progress. */
const INTERVAL = 100;
const LARGEST_RECEIPT = 1_000_000;

const receiptSchema = v.object({
  bytes: v.number(),
  // Of the repacked file as it was written. Not its inode too, which some network file systems give anew.
  modified: v.number(),
  sources: v.array(v.object({ file: v.string(), bytes: v.number(), modified: v.number(), sha256: v.string() })),
});

/** What a repacked file was made of. */
export type RepackedReceipt = Readonly<v.InferOutput<typeof receiptSchema>>;

/** A repacked file on this machine. */
export interface RepackedOnDisk {
  readonly path: string;
  readonly bytes: number;
  /** undefined where its receipt is lost: it is made again when it is wanted. */
  readonly sources: RepackedReceipt["sources"] | undefined;
  /** Whether it was changed after it was written: then too it is made again. */
  readonly isChanged: boolean;
}

/**
 * Makes the repacked file of a layout unless it is there, from sources that have not changed. Throws QEDIT_E_IO without room, QEDIT_E_CHECKPOINT for
 * weights that are no numbers, and the signal's reason; nothing half-written is left.
 */
export async function makeRepacked(
  file: RepackedFile,
  { emit, signal = new AbortController().signal }: { readonly emit: Emit; readonly signal?: AbortSignal },
): Promise<void> {
  const folder = dirname(file.path);
  await makeFolders(folder).catch((error: unknown) => {
    throw ioFailure("write", folder, error);
  });
  if (await isCurrent(file, { emit, signal })) return;
  const onWait = () => emit({ kind: "activity", text: "waiting for another process that repacks the same file" });
  await withLock(file.path, { signal, onWait }, async () => {
    if (await isCurrent(file, { emit, signal })) return;
    await refuseWithoutRoom(file);
    const name = basename(file.layout.checkpoint.file);
    emit({
      kind: "note",
      text: `${name} is repacked once into ${decimalSize(file.layout.bytes)} at ${file.path}; \`qedit models repacked\` lists and removes such files`,
    });
    const sources = [];
    for (const source of sourcesOf(file)) {
      const { size, mtimeMs } = await stat(source).catch((error: unknown) => {
        throw ioFailure("read", source, error);
      });
      const onProgress = follow(`reading ${basename(source)}`, size, emit);
      sources.push({
        file: source,
        bytes: size,
        modified: mtimeMs,
        sha256: await fileHash(source, { signal, onProgress }),
      });
    }
    const following = { signal, onProgress: follow(`repacking ${name}`, file.layout.bytes, emit) };
    const write = (handle: FileHandle) => writeRepacked(handle, file.layout, following);
    await streamAtomically(file.path, write, { overwrite: true, signal });
    const { mtimeMs } = await stat(file.path);
    await writeReceipt(file.path, { bytes: file.layout.bytes, modified: mtimeMs, sources });
  });
}

/** Every repacked file of this machine. */
export async function listRepacked(): Promise<readonly RepackedOnDisk[]> {
  const folder = repackedFolder();
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^[0-9a-f]{64}-\w+\.safetensors$/.test(name));
  return Promise.all(
    names.sort().map(async (name) => {
      const path = join(folder, name);
      const found = await stat(path);
      const receipt = await readReceipt(path);
      const isChanged = receipt !== undefined && !isAsWritten(found, receipt);
      return { path, bytes: found.size, sources: receipt?.sources, isChanged };
    }),
  );
}

/** Whether the repacked file of a layout is there, as it was written; its sources are not looked at. */
export async function hasRepacked({ path, layout }: RepackedFile): Promise<boolean> {
  const receipt = await readReceipt(path);
  const found = await stat(path).catch(() => undefined);
  return receipt?.bytes === layout.bytes && found !== undefined && isAsWritten(found, receipt);
}

/** Removes a repacked file and its receipt. Throws QEDIT_E_IO. */
export async function removeRepacked({ path }: Pick<RepackedOnDisk, "path">): Promise<void> {
  try {
    await rm(path, { force: true });
    await rm(receiptOf(path), { force: true });
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

// Whether the file is there, as it was written, and of the sources as they are now. What only was moved or touched is read through once.
async function isCurrent(file: RepackedFile, { emit, signal }: { emit: Emit; signal: AbortSignal }): Promise<boolean> {
  const receipt = await readReceipt(file.path);
  const paths = sourcesOf(file);
  if (receipt?.bytes !== file.layout.bytes || receipt.sources.length !== paths.length) return false;
  if (!(await isWhole(file, receipt))) return false;
  let isTouched = false;
  const now = [];
  for (const [index, path] of paths.entries()) {
    const known = receipt.sources[index]!;
    const found = await stat(path).catch(() => undefined);
    if (found?.size !== known.bytes) return false;
    if (found.mtimeMs !== known.modified || path !== known.file) {
      isTouched = true;
      const onProgress = follow(`reading ${basename(path)}`, found.size, emit);
      if ((await fileHash(path, { signal, onProgress })) !== known.sha256) return false;
    }
    now.push({ ...known, file: path, modified: found.mtimeMs });
  }
  if (isTouched)
    await writeReceipt(file.path, { ...receipt, sources: now }).catch((error: unknown) => {
      // Ignore: where nothing can be written, the sources are read through again the next time.
      if (!(error instanceof QeditError && error.code === "QEDIT_E_IO")) throw error;
    });
  return true;
}

async function isWhole({ path, layout: { header } }: RepackedFile, receipt: RepackedReceipt): Promise<boolean> {
  try {
    const handle = await open(path);
    try {
      return (
        isAsWritten(await handle.stat(), receipt) &&
        Buffer.compare(await readRange(handle, 0, header.length), header) === 0
      );
    } finally {
      await handle.close();
    }
  } catch {
    return false;
  }
}

function isAsWritten({ size, mtimeMs }: Stats, { bytes, modified }: RepackedReceipt): boolean {
  return size === bytes && mtimeMs === modified;
}

async function refuseWithoutRoom({ path, layout }: RepackedFile): Promise<void> {
  const free = await freeBytes(dirname(path));
  if (layout.bytes <= free) return;
  const wanted = `${decimalSize(layout.bytes)} are needed in ${dirname(path)}, ${decimalSize(free)} are free`;
  throw new QeditError("QEDIT_E_IO", `Cannot repack ${layout.checkpoint.file}: ${wanted}`, {
    hint: "Free some space, remove others by `qedit models repacked --rm`, or set QEDIT_HOME to another disk",
  });
}

// The files that raw weights are read from, each once.
function sourcesOf({ layout }: RepackedFile): readonly string[] {
  const parts = layout.tensors.flatMap(({ from }) => from.joinedFrom?.parts ?? [from]);
  return [...new Set(parts.map(({ file }) => file))];
}

function follow(name: string, total: number, emit: Emit): (done: number) => void {
  const begin = performance.now();
  let last = 0;
  return (bytes) => {
    const now = performance.now();
    if (now - last < INTERVAL && bytes < total) return;
    last = now;
    const seconds = (now - begin) / 1000;
    emit({ kind: "transfer", name, bytes, total, bytesPerSecond: seconds > 0 ? bytes / seconds : 0 });
  };
}

async function readReceipt(path: string): Promise<RepackedReceipt | undefined> {
  try {
    const file = receiptOf(path);
    if ((await stat(file)).size > LARGEST_RECEIPT) return undefined;
    const { success, output } = v.safeParse(receiptSchema, JSON.parse(await readFile(file, "utf8")));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

function writeReceipt(path: string, receipt: RepackedReceipt): Promise<void> {
  const text = new TextEncoder().encode(`${JSON.stringify(receipt, null, 2)}\n`);
  return writeFileAtomically(receiptOf(path), text);
}

function receiptOf(path: string): string {
  return path.replace(/\.safetensors$/, ".json");
}
