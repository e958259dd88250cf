// Byte-level BPE over token ids alone: ids 0 to 255 are the bytes in GPT-2's order of symbols, id 256 + n is what merge n makes of two ids.
// Sennrich et al. 2016 (arXiv 1508.07909); of the pairs in a word, the earliest merge is next, and of several places the leftmost.

/** Merges in order, as the ids of their left and right parts. */
export interface Merges {
  readonly left: Int32Array;
  readonly right: Int32Array;
}

/** Ids of the bytes. */
const BYTES = 256;
/** Above any number of merges: keys of the heap are merge · PLACES + place. */
const PLACES = 2 ** 32;

/** The ids of the 256 bytes: printable ones first, then the others. */
const ID_OF_BYTE = idsOfBytes();

/** Words to ids and back. */
export class BytePairs {
  /** Open addressing: merge + 1 of a pair, 0 for an empty slot. At most 5/8 are taken. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor(private readonly merges: Merges) {
    const size = 2 ** Math.ceil(Math.log2(merges.left.length * 1.6));
    this.#slots = new Int32Array(size);
    this.#mask = size - 1;
    for (let merge = 0; merge < merges.left.length; merge += 1) {
      let slot = this.#slotOf(merges.left[merge]!, merges.right[merge]!);
      while (this.#slots[slot] !== 0) slot = (slot + 1) & this.#mask;
      this.#slots[slot] = merge + 1;
    }
  }

  /** The ids of a word's bytes. */
  encode(word: Uint8Array): number[] {
    const ids = Int32Array.from(word, (byte) => ID_OF_BYTE[byte]!);
    // Places are those of the bytes; what was merged away is skipped.
    const [next, previous] = [ids.map((_, place) => place + 1), ids.map((_, place) => place - 1)];
    const heap = new Heap();
    const consider = (place: number) => {
      if (place < 0 || next[place]! >= ids.length) return;
      const merge = this.#mergeOf(ids[place]!, ids[next[place]!]!);
      if (merge >= 0) heap.push(merge * PLACES + place);
    };
    for (let place = 0; place < ids.length; place += 1) consider(place);
    for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
      const [merge, place] = [Math.floor(key / PLACES), key % PLACES];
      // One of the two may be part of another token by now.
      if (ids[place] !== this.merges.left[merge] || ids[next[place]!] !== this.merges.right[merge]) continue;
      const gone = next[place]!;
      ids[place] = BYTES + merge;
      ids[gone] = -1;
      next[place] = next[gone]!;
      if (next[place]! < ids.length) previous[next[place]!] = place;
      consider(previous[place]!);
      consider(place);
    }
    return [...ids].filter((id) => id >= 0);
  }

  /** The bytes of an id. Throws for one that no merge makes. */
  bytesOf(id: number): number[] {
    const bytes: number[] = [];
    const open = [id];
    for (let part = open.pop(); part !== undefined; part = open.pop()) {
      if (part < BYTES) bytes.push(ID_OF_BYTE.indexOf(part));
      else if (part - BYTES < this.merges.left.length)
        open.push(this.merges.right[part - BYTES]!, this.merges.left[part - BYTES]!);
      else throw new Error(`internal: ${part} is no token`);
    }
    return bytes;
  }

  /** The merge of two ids; -1 for none. */
  #mergeOf(left: number, right: number): number {
    let slot = this.#slotOf(left, right);
    for (let found = this.#slots[slot]!; found !== 0; found = this.#slots[slot]!) {
      if (this.merges.left[found - 1] === left && this.merges.right[found - 1] === right) return found - 1;
      slot = (slot + 1) & this.#mask;
    }
    return -1;
  }

  // Knuth's multiplicative hash, of both.
  #slotOf(left: number, right: number): number {
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }
}

/** The smallest number first. */
class Heap {
  readonly #keys: number[] = [];

  push(key: number): void {
    const keys = this.#keys;
    let place = keys.length;
    keys.push(key);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[place] = keys[parent]!;
      place = parent;
    }
    keys[place] = key;
  }

  pop(): number | undefined {
    const keys = this.#keys;
    const [first, last] = [keys[0], keys.pop()];
    if (keys.length === 0 || last === undefined) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child + 1 < keys.length && keys[child + 1]! < keys[child]!) child += 1;
      if (child >= keys.length || keys[child]! >= last) break;
      keys[place] = keys[child]!;
      place = child;
    }
    keys[place] = last;
    return first;
  }
}

/** Whether GPT-2 writes a byte as the character of its own code. */
export function isPrintable(byte: number): boolean {
  return (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
}

function idsOfBytes(): Uint8Array {
  const bytes = Array.from({ length: BYTES }, (_, byte) => byte);
  const ids = new Uint8Array(BYTES);
  for (const [id, byte] of [...bytes.filter(isPrintable), ...bytes.filter((each) => !isPrintable(each))].entries())
    ids[byte] = id;
  return ids;
}
