// One remote file to its place on disk: resumed, verified by its hash, and only then given its name.
import { rename, rm, stat } from "node:fs/promises";
import { fileHash } from "../../std/file-hash.js";
import { ioFailure } from "../../std/files.js";
import { fetchMissing, fetchVersion } from "./fetch.js";
import { Part, removePart } from "./part.js";
import { type DownloadEvent, Progress } from "./progress.js";
import { proxyAgent, SILENCE } from "./proxy.js";
import { sizeOf } from "./ranges.js";
import type { Digest, RemoteFile } from "./remote-file.js";

/** Hosts share out their bandwidth by connection; they take more connections than this for abuse. */
const CONNECTIONS = 8;
/** Bytes of one request: small enough that the connections end together, large enough that requests are few. */
const PIECE_BYTES = 32 * 2 ** 20;
/** Wait after a first failure, milliseconds; each further one doubles it. */
const FIRST_WAIT = 500;

/** How to fetch; all but the signal and the listener have defaults. */
export interface FetchOptions {
  readonly signal: AbortSignal;
  readonly emit: (event: DownloadEvent) => void;
  readonly connections?: number;
  /** Bytes of one request. */
  readonly pieceBytes?: number;
  /** Wait after a first failure, milliseconds. */
  readonly firstWait?: number;
  /** Milliseconds without a byte after which a connection is given up. */
  readonly silence?: number;
}

/** The hash of a file on disk. */
export interface Verified {
  /** Hexadecimal. */
  readonly sha256: string;
  /** Whether the hash was compared with a published one. */
  readonly isVerified: boolean;
}

/**
 * Fetches a file to `target`, whose folder must exist; what an interrupted call left in `target.part` is used. Throws QEDIT_E_NETWORK,
 * QEDIT_E_IO, or the reason of the signal; then the part stays, unless its hash was wrong: that one is kept as `target.wrong`.
 */
export async function fetchFile(remote: RemoteFile, target: string, options: FetchOptions): Promise<Verified> {
  const stated = await fill(remote, target, options);
  const part = `${target}.part`;
  const aside = `${target}.wrong`;
  const digest = remote.digest ?? (stated === undefined ? undefined : ({ algorithm: "sha256", hex: stated } as const));
  const setAside = async () => {
    await rename(part, aside);
    await removePart(target);
    return aside;
  };
  const verified = await verify(remote, part, { ...options, digest, setAside });
  await rename(part, target).catch((error: unknown) => Promise.reject(ioFailure("write", target, error)));
  await removePart(target);
  await rm(aside, { force: true });
  return verified;
}

/** Compares a file on disk with a digest. Throws the remote file's error when they differ, after `setAside` gave the place of the file. */
export async function verify(
  { name, mismatched }: Pick<RemoteFile, "name" | "mismatched">,
  path: string,
  {
    digest,
    setAside = async () => path,
    signal,
    emit,
  }: FetchOptions & { readonly digest: Digest | undefined; readonly setAside?: () => Promise<string> },
): Promise<Verified> {
  const total = await stat(path).then(
    ({ size }) => size,
    (error: unknown) => Promise.reject(ioFailure("read", path, error)),
  );
  const onProgress = (done: number) => emit({ kind: "verifying", file: name, done, total });
  const sha256 = await fileHash(path, { signal, onProgress });
  if (digest === undefined) return { sha256, isVerified: false };
  const { algorithm } = digest;
  const found = algorithm === "sha256" ? sha256 : await fileHash(path, { algorithm, signal });
  if (found === digest.hex) return { sha256, isVerified: true };
  throw mismatched({ algorithm, hex: found }, digest, await setAside());
}

// Gives the part every byte of the file; gives the SHA-256 that the server states, if it does.
async function fill(remote: RemoteFile, target: string, options: FetchOptions): Promise<string | undefined> {
  const { signal, emit, connections = CONNECTIONS, pieceBytes = PIECE_BYTES } = options;
  const { firstWait = FIRST_WAIT, silence = SILENCE } = options;
  const dispatcher = await proxyAgent({ connections, silence });
  const connection = { remote, dispatcher, signal, emit, firstWait };
  try {
    const version = remote.bytes === undefined ? await fetchVersion(connection) : undefined;
    const bytes = remote.bytes ?? version?.bytes ?? Infinity;
    const part = await Part.open(target, bytes);
    if (version) part.accept(version);
    const progress = new Progress({ name: remote.name, bytes }, { done: sizeOf(part.done), emit });
    let isWhole = false;
    try {
      await fetchMissing({ ...connection, bytes, part, progress, connections, pieceBytes });
      isWhole = true;
      return part.stated;
    } finally {
      progress.report();
      // What came in counts, even where the download failed; then its own failure is the one to report.
      await part.journal().catch((error: unknown) => {
        if (isWhole) throw error;
      });
      await part.close();
    }
  } finally {
    await dispatcher.destroy();
  }
}
