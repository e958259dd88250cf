// Packages of the CUDA runtime: files of NuGet, npm and PyPI, or of any URL, in a folder for downloads.
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { ioFailure, makeFolders } from "../../std/files.js";
import { type FetchOptions, fetchFile } from "../download/fetch-file.js";
import type { DownloadEvent } from "../download/progress.js";
import type { Digest, RemoteFile } from "../download/remote-file.js";

/** A package to download. */
export interface Package {
  readonly url: string;
  /** Name on disk and in messages. */
  readonly name: string;
  /** Undefined when no hash was published. */
  readonly digest: Digest | undefined;
}

/** Where to put packages, and how to fetch them. */
export interface PackageOptions extends Omit<FetchOptions, "emit"> {
  readonly folder: string;
  readonly emit: Emit;
}

/** A package on disk. */
export interface DownloadedPackage {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Downloads a package, going on where an earlier call stopped. Throws QEDIT_E_NETWORK, QEDIT_E_IO, or the reason of the signal. */
export async function downloadPackage(
  wanted: Package,
  { folder, emit, ...options }: PackageOptions,
): Promise<DownloadedPackage> {
  await makeFolders(folder).catch((error: unknown) => {
    throw ioFailure("write", folder, error);
  });
  const path = join(folder, wanted.name);
  const { sha256 } = await fetchFile(remotePackage(wanted), path, { ...options, emit: (event) => report(event, emit) });
  return { path, bytes: (await stat(path)).size, sha256 };
}

function remotePackage({ url: address, name, digest }: Package): RemoteFile {
  const url = new URL(address);
  return {
    name,
    url,
    bytes: undefined,
    token: undefined,
    digest: digest && { ...digest, hex: digest.hex.toLowerCase() },
    refused: (status) =>
      new QeditError("QEDIT_E_NETWORK", `Cannot fetch ${address}: the server answers ${status}`, {
        hint: "Check the address; `qedit setup --from FILE` takes a file",
      }),
    mismatched: (found, wanted, aside) =>
      new QeditError(
        "QEDIT_E_NETWORK",
        `Cannot take ${name}: its ${wanted.algorithm} is ${found.hex}, wanted ${wanted.hex}`,
        {
          hint: `What came is kept as ${basename(aside)} in ${dirname(aside)}; try again, or another source: \`qedit setup --from FILE\``,
        },
      ),
    unreachableHint:
      "Run the command again, it goes on where it stopped; HTTPS_PROXY is respected; `qedit setup --from FILE` works without a network",
  };
}

function report(event: DownloadEvent, emit: Emit): void {
  if (event.kind === "progress") {
    const { file: name, done: bytes, total, bytesPerSecond } = event;
    emit({ kind: "transfer", name, bytes, total, bytesPerSecond });
  } else if (event.kind === "retrying") emit({ kind: "detail", text: `${event.file}: ${event.reason}; trying again` });
}
