// Puts model files beside exported graphs. ONNX Runtime refuses external data behind a symbolic link, so they are hard links to the real files;
// where those cannot be, on another file system, copies.
import { constants, createReadStream, createWriteStream } from "node:fs";
import { copyFile, link, realpath, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { freeBytes } from "../../catalog/download/disk.js";
import type { Graph } from "../../graph/graph.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { ioFailure } from "../../std/files.js";

/** Bytes that are copied at a time. */
const PART = 4 * 1024 ** 2;
/** Milliseconds between two events of a copy. */
const EVENT_INTERVAL = 100;

/** Why a hard link cannot be made although both folders are fine: another file system, one without links, files of another user, too many links. */
const NO_LINK = new Set(["EXDEV", "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EACCES"]);

/** A model file's place in an exported folder. */
interface Placed {
  /** The real file. */
  readonly source: string;
  readonly path: string;
}

/** What became of the model files. */
export interface PlacedWeights {
  /** Bytes of the files that the exported folder shares with the model store. */
  readonly linked: number;
  readonly copied: number;
}

/** Names of the files of a graph's weights beside the graph: their own, with a number where two have the same. */
export function namesBeside({ externals }: Pick<Graph, "externals">): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const taken = new Set(["model.onnx"]);
  for (const { file } of externals.values()) {
    if (names.has(file)) continue;
    const own = basename(file);
    let name = own;
    for (let count = 2; taken.has(name); count++) name = `${count}-${own}`;
    taken.add(name);
    names.set(file, name);
  }
  return names;
}

/**
 * Places model files: a map of places to files. Each real file is linked or copied once, and the copy is linked where it is wanted again. Throws
 * QEDIT_E_IO when a file is gone or its copy does not fit on the disk; nothing is copied then.
 */
export async function placeWeights(
  files: ReadonlyMap<string, string>,
  { emit, signal }: { readonly emit: Emit; readonly signal: AbortSignal },
): Promise<PlacedWeights> {
  const placed = await Promise.all([...files].map(async ([path, file]) => ({ path, source: await realFile(file) })));
  const unlinked: Placed[] = [];
  const linked = new Set<string>();
  for (const each of placed) (await isLinked(each)) ? linked.add(each.source) : unlinked.push(each);
  const wanted = new Set(unlinked.map(({ source }) => source));
  const sizes = new Map<string, number>();
  for (const source of new Set(placed.map((each) => each.source))) sizes.set(source, (await stat(source)).size);
  const bytes = (sources: Iterable<string>) => [...sources].reduce((sum, source) => sum + sizes.get(source)!, 0);
  const total = bytes(wanted);
  if (total > 0) await refuseWithoutRoom(unlinked[0]!, total);
  await copyAll(unlinked, { total, emit, signal });
  return { linked: bytes([...linked].filter((source) => !wanted.has(source))), copied: total };
}

async function realFile(file: string): Promise<string> {
  return realpath(file).catch((error: unknown) => {
    throw ioFailure("read", file, error);
  });
}

async function isLinked({ source, path }: Placed): Promise<boolean> {
  try {
    await link(source, path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && NO_LINK.has(String(error.code))) return false;
    throw error;
  }
}

async function refuseWithoutRoom({ source, path }: Placed, total: number): Promise<void> {
  const free = await freeBytes(path);
  if (total <= free) return;
  throw new QeditError(
    "QEDIT_E_IO",
    `Cannot copy ${basename(source)} and what else cannot be linked: ${decimalSize(total)} are needed, ${decimalSize(free)} are free`,
    { hint: `Export to the file system of ${source}, where hard links need no space, or free some` },
  );
}

interface Copying {
  readonly total: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

async function copyAll(files: readonly Placed[], { total, emit, signal }: Copying): Promise<void> {
  const copies = new Map<string, string>();
  const began = performance.now();
  let [done, shown] = [0, 0];
  const report = (name: string) => {
    const seconds = (performance.now() - began) / 1000;
    emit({ kind: "transfer", name, bytes: done, total, bytesPerSecond: seconds > 0 ? done / seconds : 0 });
  };
  for (const { source, path } of files) {
    const copy = copies.get(source);
    if (copy !== undefined && (await isLinked({ source: copy, path }))) continue;
    const name = `copying ${basename(path)}`;
    if (copy === undefined) emit({ kind: "start", stage: name });
    await copyOne({ source, path }, signal, (bytes) => {
      done += bytes;
      if (performance.now() - shown < EVENT_INTERVAL) return;
      shown = performance.now();
      report(name);
    });
    report(name);
    if (copy === undefined) emit({ kind: "end", stage: name, seconds: (performance.now() - began) / 1000 });
    copies.set(source, path);
  }
}

async function copyOne({ source, path }: Placed, signal: AbortSignal, onBytes: (count: number) => void): Promise<void> {
  signal.throwIfAborted();
  // A clone shares the blocks, where the file system can.
  const isCloned = await copyFile(source, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    () => false,
  );
  if (isCloned) return onBytes((await stat(path)).size);
  const counted = new Transform({
    transform(part: Buffer, _encoding, next) {
      onBytes(part.length);
      next(null, part);
    },
  });
  const read = createReadStream(source, { highWaterMark: PART });
  await pipeline(read, counted, createWriteStream(path, { flags: "w", flush: true }), { signal });
}
