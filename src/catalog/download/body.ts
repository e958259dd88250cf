// The body of an answer without loss: what arrived before a connection broke is handed out before the break is told. undici's own
// readable throws away what it has buffered by then, and a server that cuts small pieces would never let a download get on.
import { Writable } from "node:stream";

/** So much waits for the disk before the connection is slowed down, bytes. */
const WAITING_BYTES = 4 * 2 ** 20;

/** Takes the chunks of a body as undici writes them, and gives them to one reader. */
export class Body extends Writable implements AsyncIterable<Uint8Array> {
  #chunks: Uint8Array[] = [];
  #waiting = 0;
  #isEnded = false;
  #failure: Error | undefined;
  #onChange: () => void = () => {};
  #resume: (() => void) | undefined;

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    this.#waiting += chunk.length;
    if (this.#waiting < WAITING_BYTES) done();
    else this.#resume = done;
    this.#onChange();
  }

  override _final(done: () => void): void {
    this.#isEnded = true;
    this.#onChange();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#failure = error ?? undefined;
    this.#isEnded = true;
    this.#onChange();
    // The reader hears of it, and nobody else has to.
    done(null);
  }

  /** The chunks in order; throws what broke the connection once all that came is read. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#waiting -= chunk.length;
        yield chunk;
        this.#relieve();
      } else if (this.#isEnded) {
        if (this.#failure) throw this.#failure;
        return;
      } else await new Promise<void>((resolve) => (this.#onChange = resolve));
    }
  }

  #relieve(): void {
    if (this.#resume === undefined || this.#waiting >= WAITING_BYTES) return;
    const resume = this.#resume;
    this.#resume = undefined;
    resume();
  }
}
