// What a download tells while it runs, and the speed and time left that it tells.
import type { HubFile } from "../published/models-schema.js";

/** What a download tells. */
export type DownloadEvent =
  | {
      readonly kind: "progress";
      readonly file: string;
      readonly done: number;
      readonly total: number;
      readonly bytesPerSecond: number;
      readonly secondsLeft: number | undefined;
    }
  | { readonly kind: "verifying"; readonly file: string; readonly done: number; readonly total: number }
  | { readonly kind: "retrying"; readonly file: string; readonly reason: string; readonly seconds: number }
  | { readonly kind: "waiting"; readonly file: string; readonly reason: string };

/** The speed is that of the last so many milliseconds. */
const WINDOW = 10_000;
/** A speed over less than so many milliseconds says nothing. */
const SHORTEST = 300;
/** Events come at least so far apart, milliseconds. */
const EVERY = 200;

/** Counts the bytes of one file and tells them. */
export class Progress {
  readonly #file: HubFile;
  readonly #emit: (event: DownloadEvent) => void;
  #done: number;
  #received = 0;
  #told = 0;
  #samples: { at: number; received: number }[];

  constructor(file: HubFile, done: number, emit: (event: DownloadEvent) => void) {
    this.#file = file;
    this.#emit = emit;
    this.#done = done;
    this.#samples = [{ at: performance.now(), received: 0 }];
  }

  /** Bytes that came over the network, those that had to come twice included. */
  get received(): number {
    return this.#received;
  }

  /** Counts bytes that were written. */
  add(bytes: number): void {
    this.#done += bytes;
    this.#received += bytes;
    if (performance.now() - this.#told > EVERY) this.tell();
  }

  /** Goes on from so many bytes, when what was there had to be thrown away. */
  begin(done: number): void {
    this.#done = done;
  }

  /** Tells how it stands. */
  tell(): void {
    const now = performance.now();
    this.#told = now;
    this.#samples = [
      ...this.#samples.filter(({ at }, index) => now - at <= WINDOW || index === this.#samples.length - 1),
      { at: now, received: this.#received },
    ];
    const oldest = this.#samples[0]!;
    const bytesPerSecond =
      now - oldest.at > SHORTEST ? ((this.#received - oldest.received) * 1000) / (now - oldest.at) : 0;
    const total = this.#file.bytes;
    const secondsLeft = bytesPerSecond > 0 ? (total - this.#done) / bytesPerSecond : undefined;
    this.#emit({ kind: "progress", file: this.#file.file, done: this.#done, total, bytesPerSecond, secondsLeft });
  }
}
