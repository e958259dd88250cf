// The 32-bit Mersenne Twister (mt19937) of Matsumoto and Nishimura, 1998: the source of every random number of torch on the CPU.

const SIZE = 624;
const MIDDLE = 397;

/** Gives the next 32 random bits, as a number in 0..2^32 - 1. */
export type RandomBits = () => number;

/** A fresh mt19937; only the low 32 bits of the seed count, as in torch. */
export function mersenneTwister(seed: number | bigint): RandomBits {
  const state = seededState(Number(BigInt.asUintN(32, BigInt(seed))));
  let index = SIZE;
  return () => {
    if (index === SIZE) {
      twist(state);
      index = 0;
    }
    let y = state[index++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

function seededState(seed: number): Uint32Array {
  const state = new Uint32Array(SIZE);
  state[0] = seed;
  for (let j = 1; j < SIZE; j++) {
    const previous = state[j - 1]!;
    state[j] = Math.imul(1812433253, previous ^ (previous >>> 30)) + j;
  }
  return state;
}

function twist(state: Uint32Array): void {
  for (let j = 0; j < SIZE; j++) {
    const y = (state[j]! & 0x80000000) | (state[(j + 1) % SIZE]! & 0x7fffffff);
    state[j] = state[(j + MIDDLE) % SIZE]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}
