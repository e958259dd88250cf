// One file from the hub to its place on disk: one download of it at a time, the hash checked, and only then the name given.
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { EnvHttpProxyAgent } from "undici";
import { QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { ioFailure } from "../../std/files.js";
import { withLock } from "../../std/lock.js";
import type { HubFile } from "../published/models-schema.js";
import { refuseWithoutSpace } from "./disk.js";
import { fetchMissing } from "./fetch.js";
import { hubToken } from "./hub.js";
import { bytesLeft, Part, removePart } from "./part.js";
import { type DownloadEvent, Progress } from "./progress.js";
import { sizeOf } from "./ranges.js";
import { writeReceipt } from "./receipt.js";

/** Hosts give one connection a share of their line; more than this they take for abuse. */
const CONNECTIONS = 8;
/** So much is asked for at once: small enough that the connections end together, large enough that requests are few. */
const PIECE_BYTES = 32 * 2 ** 20;
/** Wait after a first failure, milliseconds; each further one doubles it. */
const FIRST_WAIT = 500;
/** A connection that sends nothing for so long is given up, milliseconds. */
const SILENCE = 30_000;

/** How to download; all but the signal and the listener have defaults. */
export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly emit: (event: DownloadEvent) => void;
  readonly connections?: number;
  readonly pieceBytes?: number;
  readonly firstWait?: number;
  readonly silence?: number;
}

/** A file that is there now. */
export interface Downloaded {
  readonly path: string;
  readonly sha256: string;
  /** Claims that the hash was compared with one that the catalogue or the hub states. */
  readonly isVerified: boolean;
}

/**
 * Downloads a file to `target`; what an interrupted download left is used. Throws QEDIT_E_NETWORK, QEDIT_E_IO (no space), or the reason of
 * the signal; the part stays for the next time, unless its hash was wrong: then it is kept aside as `target.wrong`.
 */
export async function downloadFile(file: HubFile, target: string, options: DownloadOptions): Promise<Downloaded> {
  const { signal, emit } = options;
  await mkdir(dirname(target), { recursive: true }).catch((error: unknown) => {
    throw ioFailure("write", target, error);
  });
  const onWait = ({ pid }: { pid: number }) =>
    emit({ kind: "waiting", file: file.file, reason: `another download of it is running, process ${pid}` });
  return withLock(target, { signal, onWait }, async () => {
    // Another process may have brought it meanwhile, and checked it.
    const isThere = await stat(target).then(
      ({ size }) => size === file.bytes,
      () => false,
    );
    if (isThere) return checked(file, target, { ...options, stated: undefined });
    await refuseWithoutSpace(target, file.bytes - (await bytesLeft(target, file.bytes)));
    const stated = await fill(file, target, options);
    const downloaded = await checked(file, `${target}.part`, { ...options, stated, target });
    await rename(`${target}.part`, target).catch((error: unknown) => Promise.reject(ioFailure("write", target, error)));
    await removePart(target);
    await rm(`${target}.wrong`, { force: true });
    const { repository, path, revision, bytes } = file;
    await writeReceipt(target, { repository, path, revision, bytes, sha256: downloaded.sha256 });
    return { ...downloaded, path: target };
  });
}

// Gives the part every byte of the file; gives the hash that the hub states, if it does.
async function fill(file: HubFile, target: string, options: DownloadOptions): Promise<string | undefined> {
  const {
    signal,
    emit,
    connections = CONNECTIONS,
    pieceBytes = PIECE_BYTES,
    firstWait = FIRST_WAIT,
    silence = SILENCE,
  } = options;
  const dispatcher = proxyAgent({ connections, silence });
  const part = await Part.open(target, file.bytes);
  const progress = new Progress(file, sizeOf(part.done), emit);
  let isWhole = false;
  try {
    await fetchMissing({
      file,
      part,
      token: await hubToken(),
      dispatcher,
      progress,
      signal,
      emit,
      connections,
      pieceBytes,
      firstWait,
    });
    isWhole = true;
    return part.stated;
  } finally {
    progress.tell();
    // What came in counts, even where the download failed; then its own failure is the one to tell.
    await part.journal().catch((error: unknown) => {
      if (isWhole) throw error;
    });
    await part.close();
    await dispatcher.destroy();
  }
}

// Honours HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case.
function proxyAgent({ connections, silence }: { connections: number; silence: number }): EnvHttpProxyAgent {
  try {
    return new EnvHttpProxyAgent({
      connections,
      headersTimeout: silence,
      bodyTimeout: silence,
      connect: { timeout: silence },
    });
  } catch (cause) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      "Cannot use the proxy: HTTP_PROXY or HTTPS_PROXY is no address such as http://proxy:8080",
      { cause, hint: "unset HTTPS_PROXY HTTP_PROXY https_proxy http_proxy" },
    );
  }
}

async function checked(
  file: HubFile,
  path: string,
  options: DownloadOptions & { stated: string | undefined; target?: string },
): Promise<Downloaded> {
  const { stated, signal, emit, target } = options;
  const sha256 = await fileHash(path, {
    signal,
    onProgress: (done) => emit({ kind: "verifying", file: file.file, done, total: file.bytes }),
  });
  const wanted = file.sha256 ?? stated;
  if (wanted === undefined || wanted === sha256) return { path, sha256, isVerified: wanted !== undefined };
  const aside = target === undefined ? path : `${target}.wrong`;
  if (target !== undefined) {
    await rename(path, aside);
    await removePart(target);
  }
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot accept ${file.file}: its SHA-256 is ${sha256}, ${wanted} was published`,
    {
      hint: `It is kept aside as ${aside}. Run the same command to download it afresh`,
    },
  );
}
