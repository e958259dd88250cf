// The machine: Node, CPU, memory and disk space.

import { readFile } from "node:fs/promises";
import { arch, availableParallelism, cpus, freemem, platform, release, totalmem } from "node:os";
import { isNodeNewEnough, oldestNode } from "../../std/node-version.js";
import { folderFor } from "../../std/own-folders.js";
import { qeditVersion } from "../../std/version.js";
import { freeBytes } from "../download/disk.js";

/** Facts for a bug report. Sizes in bytes. */
export interface Machine {
  readonly qedit: string;
  readonly node: string;
  /** The oldest Node.js that qedit runs on. */
  readonly oldestNode: string;
  readonly isNodeNewEnough: boolean;
  readonly system: string;
  /** Version of the C library on Linux; undefined when Node does not report it. */
  readonly glibc: string | undefined;
  readonly cpu: { readonly model: string; readonly threads: number };
  /** `total` respects the limit of a container. */
  readonly memory: { readonly total: number; readonly available: number };
  /** Folder of models and the runtime, and its free space. */
  readonly disk: { readonly folder: string; readonly free: number | undefined };
}

/** Inspects the machine; never throws. */
export async function inspectMachine(): Promise<Machine> {
  const limit = process.constrainedMemory();
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  const folder = folderFor("data");
  return {
    qedit: qeditVersion(),
    node: process.versions.node,
    oldestNode: oldestNode(),
    isNodeNewEnough: isNodeNewEnough(),
    system: `${platform()} ${arch()} ${release()}`,
    glibc: glibcVersion(),
    cpu: { model: cpus()[0]?.model.trim() || "unknown", threads: availableParallelism() },
    memory: { total, available: Math.min(total, await availableMemory()) },
    disk: { folder, free: await freeBytes(folder).catch(() => undefined) },
  };
}

// Memory that is available without swapping; free memory alone leaves out the page cache.
async function availableMemory(): Promise<number> {
  const information = await readFile("/proc/meminfo", "utf8").catch(() => "");
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(information)?.[1];
  return kibibytes === undefined ? freemem() : Number(kibibytes) * 1024;
}

function glibcVersion(): string | undefined {
  if (process.platform !== "linux") return undefined;
  // Resolving the names of open connections can take seconds.
  Object.assign(process.report, { excludeNetwork: true });
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime;
}
