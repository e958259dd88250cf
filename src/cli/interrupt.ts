// Handles Ctrl-C, SIGTERM and SIGHUP: stops between two steps within a grace period, else at once. Never leaves a half-written file.
import { constants } from "node:os";
import { QeditError } from "../std/errors.js";
import { removeTemporaryFiles } from "../std/temporary-files.js";

/** Milliseconds to wait for the current computation. */
const GRACE = 500;

/** An abort signal for SIGINT, SIGTERM and SIGHUP; disposing it removes the handlers. */
export interface Interrupts extends Disposable {
  readonly signal: AbortSignal;
}

/** Listens for SIGINT, SIGTERM and SIGHUP. The first aborts the signal; after the grace period or at the second one the process is killed. */
export function interrupts(): Interrupts {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  let grace: NodeJS.Timeout | undefined;
  const listeners = names.map((name) => {
    const listener = () => {
      if (controller.signal.aborted) return die(name);
      const code = name === "SIGINT" ? "QEDIT_E_INTERRUPTED" : "QEDIT_E_TERMINATED";
      controller.abort(new QeditError(code, "Stopped"));
      grace = setTimeout(() => die(name), GRACE).unref();
    };
    process.on(name, listener);
    return [name, listener] as const;
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(grace);
      for (const [name, listener] of listeners) process.off(name, listener);
    },
  };
}

// A native computation cannot be stopped, and process.exit would wait for it. Re-raising the signal with its default handler
// does not wait; shells report it as 130 or 143.
function die(name: NodeJS.Signals): void {
  removeTemporaryFiles();
  process.stderr.write("error: Stopped\n");
  endBy(name);
}

/** Ends this process as the signal does by default. */
export function endBy(name: NodeJS.Signals): void {
  process.removeAllListeners(name);
  // The first process of a container has no default for signals: what shells would report is its exit code.
  if (process.pid === 1) process.exit(128 + constants.signals[name]);
  process.kill(process.pid, name);
}
