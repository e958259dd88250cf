// Ctrl-C and SIGTERM: stop between two steps if that comes soon, else at once; never leave a half-written file.
import { QeditError } from "../std/errors.js";
import { removeTemporaryFiles } from "../std/files.js";

/** How long a stop may wait for the computation under way, milliseconds. */
const GRACE = 500;

/** A signal that aborts at the first SIGINT or SIGTERM, for as long as a call runs. */
export interface Interrupts extends Disposable {
  readonly signal: AbortSignal;
}

/** Listens for SIGINT and SIGTERM; ends the process when an abort does not have it end in time, or at a second one. */
export function interrupts(): Interrupts {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
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

// A native computation cannot be stopped, and process.exit would wait for it. Dying of the signal itself does not wait,
// and shells report it as 130 or 143.
function die(name: NodeJS.Signals): void {
  removeTemporaryFiles();
  process.stderr.write("error: Stopped\n");
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}
