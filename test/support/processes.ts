// Processes of this machine, as Linux lists them.
import { readdirSync, readFileSync } from "node:fs";

/** The children of a process, such as a server's engine. */
export function childrenOf(parent: number): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => statusOf(pid).includes(`\nPPid:\t${parent}\n`))
    .map(Number);
}

/** Resident memory of a process, MB. */
export function residentMegabytes(pid: number): number {
  return Math.round(Number(/VmRSS:\s*(\d+)/.exec(statusOf(pid))?.[1]) / 1000);
}

// Empty for one that has ended meanwhile.
function statusOf(pid: number | string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "";
  }
}
