// Names of temporary files as killed processes leave them.
import { processName } from "../../src/std/temporary-files.js";

/** No system gives a process this number (Linux: 2^22 at most). */
export const NO_PROCESS = 2 ** 22 + 1;

/** The name of a temporary file of a process, of this machine unless another one is given. */
export function leftover(pid: number, machine = processName().split("-")[0]!): string {
  return `.qedit-${machine}-${pid}-0123456789abcdef.tmp`;
}
