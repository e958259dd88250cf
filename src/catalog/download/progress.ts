// Events of a download, with its speed and the time left.

/** What happens during a download; sizes in bytes. */
export type DownloadEvent =
  | {
      readonly kind: "progress";
      readonly file: string;
      readonly done: number;
      /** Undefined when the server does not say. */
      readonly total: number | undefined;
      readonly bytesPerSecond: number;
      readonly secondsLeft: number | undefined;
    }
  | { readonly kind: "verifying"; readonly file: string; readonly done: number; readonly total: number }
  | { readonly kind: "retrying"; readonly file: string; readonly reason: string; readonly seconds: number }
  | { readonly kind: "waiting"; readonly file: string; readonly reason: string };

/** The speed is the mean over the last so many milliseconds. */
const WINDOW = 10_000;
/** Shortest time over which a speed is computed, milliseconds. */
const SHORTEST = 300;
/** Least time between two events, milliseconds. */
const EVERY = 200;

/** A file whose bytes are counted. */
interface ProgressFile {
  readonly name: string;
  /** Infinity when unknown. */
  readonly bytes: number;
}

/** Counts the bytes of one file and emits progress events. */
export class Progress {
  readonly #file: ProgressFile;
  readonly #emit: (event: DownloadEvent) => void;
  #done: number;
  #received = 0;
  #reported = 0;
  #samples: { at: number; received: number }[];

  constructor(file: ProgressFile, { done, emit }: { done: number; emit: (event: DownloadEvent) => void }) {
    this.#file = file;
    this.#emit = emit;
    this.#done = done;
    this.#samples = [{ at: performance.now(), received: 0 }];
  }

  /** Bytes that came over the network, repeated ones included. */
  get received(): number {
    return this.#received;
  }

  /** Counts bytes that were written. */
  add(bytes: number): void {
    this.#done += bytes;
    this.#received += bytes;
    if (performance.now() - this.#reported > EVERY) this.report();
  }

  /** Sets the bytes that are there, when others had to be dropped. */
  restart(done: number): void {
    this.#done = done;
  }

  /** Emits a progress event. */
  report(): void {
    const now = performance.now();
    this.#reported = now;
    this.#samples = [
      ...this.#samples.filter(({ at }, index) => now - at <= WINDOW || index === this.#samples.length - 1),
      { at: now, received: this.#received },
    ];
    const oldest = this.#samples[0]!;
    const bytesPerSecond =
      now - oldest.at > SHORTEST ? ((this.#received - oldest.received) * 1000) / (now - oldest.at) : 0;
    const { name: file, bytes } = this.#file;
    const total = bytes === Infinity ? undefined : bytes;
    const secondsLeft = bytesPerSecond > 0 && total !== undefined ? (total - this.#done) / bytesPerSecond : undefined;
    this.#emit({ kind: "progress", file, done: this.#done, total, bytesPerSecond, secondsLeft });
  }
}
