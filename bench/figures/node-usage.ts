// What a process of Node takes from its start to its end.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Processor time of all threads, and the largest resident set. */
export interface NodeUsage {
  readonly seconds: number;
  readonly bytes: number;
}

const HOOK = fileURLToPath(new URL("exit-usage.cjs", import.meta.url));

/** The program as it is built in this repository. */
export const QEDIT = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));

/** Runs Node with these arguments to its end; throws if it fails. */
export function nodeUsage(args: readonly string[]): NodeUsage {
  const { status, output, stderr } = spawnSync(process.execPath, ["--require", HOOK, ...args], {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}: ${stderr}`);
  return JSON.parse(output[3] ?? "") as NodeUsage;
}
