// Ctrl-C and SIGTERM: stop between two steps if that comes soon, else at once; never leave a half-written file.
import { QeditError } from "../std/errors.js";
import { removeTemporaryFiles } from "../std/files.js";

/** How long a stop may wait for the computation under way, milliseconds. */
const GRACE = 500;

/** Aborts the returned signal at the first SIGINT or SIGTERM, and ends the process when that is not heard in time, or at a second one. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) return die(name);
      const code = name === "SIGINT" ? "QEDIT_E_INTERRUPTED" : "QEDIT_E_TERMINATED";
      controller.abort(new QeditError(code, "Stopped"));
      setTimeout(() => die(name), GRACE).unref();
    });
  }
  return controller.signal;
}

// A native computation cannot be stopped, and process.exit would wait for it. Dying of the signal itself does not wait,
// and shells report it as 130 or 143.
function die(name: NodeJS.Signals): void {
  removeTemporaryFiles();
  process.stderr.write("error: Stopped\n");
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}
