// How long a process takes at this moment: a reference for limits of time that must hold on a busy machine too.
import { spawn } from "node:child_process";
import { once } from "node:events";

/** Milliseconds that a process of node which does nothing takes from start to end, now; some 40 on a quiet machine. */
export async function processTime(): Promise<number> {
  const start = performance.now();
  await once(spawn(process.execPath, ["-e", "0"], { stdio: "ignore" }), "close");
  return performance.now() - start;
}
