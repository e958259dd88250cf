// Which process a process id meant: on Linux ids are counted anew after each start of the machine and in each container, where all are 1.
import { createHash } from "node:crypto";
import { readFile, readlink } from "node:fs/promises";
import { isObject } from "./guards.js";

/** What tells a process from others that had its id. Texts are compared, never read. */
export interface ProcessOrigin {
  /** The start of the machine. */
  readonly boot: string;
  /** The namespace of process ids; its number may be given again when it is gone. */
  readonly namespace: string;
  /** When the process started, since the machine did. */
  readonly started: string;
  /** The container, which a restart keeps; empty: in none, or not known. */
  readonly container: string;
}

/** The origin of this process; undefined where the system has no /proc, or one of another namespace. */
export async function ownOrigin(): Promise<ProcessOrigin | undefined> {
  const [boot, namespace, pid, started, mounts] = await Promise.all([
    textOf("/proc/sys/kernel/random/boot_id"),
    readlink("/proc/self/ns/pid").catch(() => undefined),
    readlink("/proc/self").catch(() => undefined),
    startOf("self"),
    textOf("/proc/self/mountinfo"),
  ]);
  if (boot === undefined || namespace === undefined || started === undefined) return undefined;
  if (pid !== String(process.pid)) return undefined;
  const container = containerOf(mounts ?? "");
  return {
    ...{ boot: boot.trim(), namespace, started },
    container: container === undefined ? "" : createHash("sha256").update(container).digest("hex").slice(0, 32),
  };
}

/** When a process of this namespace started, in ticks since the machine did (field 22 of proc_pid_stat(5)); undefined: there is none, or it cannot be read. */
export async function startOf(pid: number | "self"): Promise<string | undefined> {
  const stat = await textOf(`/proc/${pid}/stat`);
  // The second field is the program's name in parentheses, with whatever it has.
  return stat
    ?.slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .at(22 - 3);
}

/** The origin that a file says; undefined if it says none. */
export function parsedOrigin(value: unknown): ProcessOrigin | undefined {
  if (!isObject(value)) return undefined;
  const { boot, namespace, started, container } = value;
  const isWhole = [boot, namespace, started, container].every((each) => typeof each === "string");
  return isWhole ? ({ boot, namespace, started, container } as ProcessOrigin) : undefined;
}

/** What kubelet mounts into a container of a pod, its termination log for one: its last name differs after a restart, the others do not. */
const OF_POD = /\/pods\/([^/]+)\/containers\/([^/]+)\/[^/]+$/;
/** The writable layer of a container's root. Docker and Podman keep it when they start the container again. */
const LAYER = /(?:^|,)upperdir=([^,]+)/;

/**
 * What names the container in the lines of /proc/self/mountinfo (proc_pid_mountinfo(5)); undefined outside of one. A host name does not:
 * it may be set, and pods with the network of their node have the node's.
 */
export function containerOf(mountinfo: string): string | undefined {
  const mounts = mountinfo.split("\n").map((line) => line.split(" "));
  for (const [, , , root = ""] of mounts) {
    const [, pod, name] = OF_POD.exec(root) ?? [];
    if (name !== undefined) return `${pod}/${name}`;
  }
  const own = mounts.findLast(([, , , , place]) => place === "/");
  return LAYER.exec(own?.at(-1) ?? "")?.[1];
}

function textOf(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
