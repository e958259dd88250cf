// A response body that yields all bytes received before it throws a connection's failure. undici's own readable drops its buffer then, and
// a download from a server that often cuts connections would make no progress.
import { Writable } from "node:stream";

/** Bytes that may be buffered before backpressure. */
const WAITING_BYTES = 4 * 2 ** 20;

/** Buffers the chunks that undici writes, for one reader. */
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
    // The reader throws it.
    done(null);
  }

  /** The chunks in order; throws the failure of the connection after the last one. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#waiting -= chunk.length;
        yield chunk;
        this.#release();
      } else if (this.#isEnded) {
        if (this.#failure) throw this.#failure;
        return;
      } else await new Promise<void>((resolve) => (this.#onChange = resolve));
    }
  }

  #release(): void {
    if (this.#resume === undefined || this.#waiting >= WAITING_BYTES) return;
    const resume = this.#resume;
    this.#resume = undefined;
    resume();
  }
}
