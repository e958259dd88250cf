// Requests on their way to become jobs: they count in the queue from their arrival, and are checked one after the other.
import { QeditError } from "../std/errors.js";
import type { JobRunner } from "./job-runner.js";
import type { ServerLimits } from "./limits.js";

/** Bytes of pictures and tensors that may wait in memory. */
const WAITING_BYTES = 1024 ** 3;

/** Admits requests while there is room. */
export class Admission {
  #accepting = 0;
  /** Bytes of requests that are being accepted. */
  #acceptingBytes = 0;
  /** Resolves when no request is being checked. */
  #checked: Promise<void> = Promise.resolve();

  constructor(
    private readonly runner: Pick<JobRunner, "size" | "waitingBytes">,
    private readonly limits: Pick<ServerLimits, "queue">,
  ) {}

  /** Jobs that are queued or running, and requests on their way. */
  get waiting(): number {
    return this.runner.size + this.#accepting;
  }

  /** Accepts a request of so many bytes. Throws QEDIT_E_BUSY when there is no room. */
  async take<T>(bytes: number, accept: () => Promise<T>): Promise<T> {
    this.#refuseWhenFull(bytes);
    this.#accepting += 1;
    this.#acceptingBytes += bytes;
    try {
      return await accept();
    } finally {
      this.#accepting -= 1;
      this.#acceptingBytes -= bytes;
    }
  }

  /** Checks one after the other: a picture of some kilobytes may take half a gigabyte when it is decoded. */
  async inTurn(check: () => Promise<void>): Promise<void> {
    const checked = this.#checked.then(check);
    this.#checked = checked.catch(() => {});
    await checked;
  }

  #refuseWhenFull(bytes: number): void {
    const { waiting } = this;
    if (waiting >= this.limits.queue)
      throw new QeditError("QEDIT_E_BUSY", `The queue is full: ${waiting} of ${this.limits.queue} jobs wait`, {
        hint: "Send it again later",
      });
    if (this.runner.waitingBytes + this.#acceptingBytes + bytes > WAITING_BYTES)
      throw new QeditError("QEDIT_E_BUSY", "The queue is full: the pictures that wait take too much memory", {
        hint: "Send it again later",
      });
  }
}
