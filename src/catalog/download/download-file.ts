// One file from the model hub to a models folder: one download of it at a time, and a receipt beside the result.
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ioFailure, makeFolders } from "../../std/files.js";
import { type Holder, isLocked, withLock } from "../../std/lock.js";
import type { HubFile } from "../published/models-schema.js";
import { refuseWithoutSpace } from "./disk.js";
import { type FetchOptions, fetchFile, type Verified, verify } from "./fetch-file.js";
import { hubRemote } from "./hub.js";
import { bytesLeft, hasPart, removePart } from "./part.js";
import { writeReceipt } from "./receipt.js";

/** A file that was downloaded, or was there already. */
export interface Downloaded extends Verified {
  readonly path: string;
}

/**
 * Downloads a file to `target`, making its folder; what an interrupted download left is used. Throws QEDIT_E_NETWORK, QEDIT_E_IO (no
 * space), or the reason of the signal; the part stays for the next call, unless its hash was wrong: that one is kept as `target.wrong`.
 */
export async function downloadFile(file: HubFile, target: string, options: FetchOptions): Promise<Downloaded> {
  const { signal, emit } = options;
  await makeFolders(dirname(target)).catch((error: unknown) => {
    throw ioFailure("write", target, error);
  });
  const remote = await hubRemote(file);
  const onWait = ({ pid }: Holder) =>
    emit({ kind: "waiting", file: file.file, reason: `another download of it is running, process ${pid}` });
  return withLock(target, { signal, onWait }, async () => {
    // Another process may have downloaded it meanwhile.
    const isThere = await stat(target).then(
      ({ size }) => size === file.bytes,
      () => false,
    );
    if (isThere) {
      const verified = await verify(remote, target, { ...options, digest: remote.digest });
      await removePart(target);
      return { path: target, ...verified };
    }
    await refuseWithoutSpace(target, file.bytes - (await bytesLeft(target, file.bytes)));
    const verified = await fetchFile(remote, target, options);
    const { repository, path, revision, bytes } = file;
    await writeReceipt(target, { repository, path, revision, bytes, sha256: verified.sha256 });
    return { path: target, ...verified };
  });
}

/** Removes the lock and the part that a download left when it was killed after the file had got its name. A download that runs keeps them. */
export async function removeDownloadLeftovers(target: string, { signal }: Pick<FetchOptions, "signal">): Promise<void> {
  if (!(await isLocked(target)) && !(await hasPart(target))) return;
  const running = new Error("internal: the download runs");
  const onWait = () => {
    throw running;
  };
  try {
    await withLock(target, { signal, onWait }, () => removePart(target));
  } catch (error) {
    if (error !== running) throw error;
  }
}
