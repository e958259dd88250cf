// Opens the networks of a model before they are asked for: a small edit of one step runs through all of them.
import { encodePicture } from "../image/io/write.js";
import { QeditError } from "../std/errors.js";
import type { EditServer } from "./edit-server.js";

/** Pixels along a side of the picture. */
const SIDE = 64;

/**
 * Opens the networks of a model, the server's own when undefined, unless the signal ends that. Throws QEDIT_E_USAGE, QEDIT_E_MODEL_MISSING, and what
 * the edit throws.
 */
export async function warmUp(server: EditServer, model: string | undefined, signal?: AbortSignal): Promise<void> {
  // Not of one colour, and the same every time.
  const data = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, index) => (index * 2654435761) >>> 24);
  const bytes = await encodePicture({ width: SIDE, height: SIDE, data }, { format: "png" });
  const small = { prompt: "open the model", steps: 1, cfg: 1, megapixels: 0.0625, force: true };
  const parameters = model === undefined ? small : { ...small, model };
  const job = await server.submit({ pictures: [{ name: "warm-up.png", bytes }], parameters });
  const cancel = () => void job.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  if (signal?.aborted) cancel();
  await job.outcome.catch((error: unknown) => {
    if (signal?.aborted) return;
    // After one step the picture may be of one colour.
    if (!(error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT")) throw error;
  });
  signal?.removeEventListener("abort", cancel);
}
