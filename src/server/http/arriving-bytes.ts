// Bodies that arrive: their bytes count together from the first one on, since a client may send most of a body and then wait for minutes.
import { QeditError } from "../../std/errors.js";
import type { ServerLimits } from "../limits.js";

/** Bytes of bodies that lie in memory together until the queue has taken or refused what they ask for: as many as may wait in it. */
const MOST_BYTES = 1024 ** 3;
/** Bytes of memory of a part beside its content, measured in Node 20: clients may send parts of one byte. */
const PART_BYTES = 256;

/** The bytes that arriving bodies may take, never less than one of the longest takes. */
export function mostArriving({ body }: Pick<ServerLimits, "body">): number {
  return Math.max(MOST_BYTES, 2 * body);
}

/** The bytes that have arrived of all bodies. */
export class ArrivingBytes {
  #bytes = 0;

  constructor(private readonly most: number) {}

  /** An account of one more body; whoever opened it releases it. */
  account(): ArrivingBody {
    let own = 0;
    return {
      add: ({ length }) => {
        const bytes = length + PART_BYTES;
        if (this.#bytes + bytes > this.most)
          throw new QeditError("QEDIT_E_BUSY", "The queue is full: the requests that arrive take too much memory", {
            hint: "Send it again later",
          });
        own += bytes;
        this.#bytes += bytes;
      },
      release: () => {
        this.#bytes -= own;
        own = 0;
      },
    };
  }
}

/** The account of a body. */
export interface ArrivingBody {
  /** Counts a part. Throws QEDIT_E_BUSY, and counts nothing, when there is no room for it. */
  readonly add: (part: Uint8Array) => void;
  /** Counts the body no more: it was dropped, or what it asks for counts in the queue from here on. */
  readonly release: () => void;
}
