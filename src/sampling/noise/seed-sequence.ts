// Seeds from seeds, as numpy.random.SeedSequence gives them: Melissa O'Neill's seed_seq_fe hash
// (https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html, constants of numpy 2).

const HASH_START = 0x43b0d7e5;
const HASH_STEP = 0x931e8875;
const OUTPUT_START = 0x8b51f9dd;
const OUTPUT_STEP = 0x58f38ded;
const MIX_LEFT = 0xca01f9dd;
const MIX_RIGHT = 0x4973f715;

/** What a sequence of seeds is made from. */
export interface SeedOrigin {
  /** 0 or more, any size. */
  readonly entropy: bigint;
  /** Identifies a child of the entropy: numbers of 0..2^32 - 1, none for the root. */
  readonly spawnKey: readonly number[];
  /** Words of state that the entropy is mixed into. */
  readonly poolSize: number;
}

/** The first `count` 32-bit seeds of numpy's SeedSequence(entropy, spawn_key=…, pool_size=…).generate_state(count). */
export function seedSequence(origin: SeedOrigin, count: number): Uint32Array {
  const pool = mixedPool(words(origin), origin.poolSize);
  const hash = hasher(OUTPUT_START, OUTPUT_STEP);
  return Uint32Array.from({ length: count }, (_, i) => hash(pool[i % pool.length]!));
}

function words({ entropy, spawnKey, poolSize }: SeedOrigin): number[] {
  const out: number[] = [];
  for (let rest = entropy; rest > 0n || out.length === 0; rest >>= 32n) out.push(Number(rest & 0xffffffffn));
  if (spawnKey.length === 0) return out;
  // zeros up to the pool keep a spawn key from looking like more entropy
  while (out.length < poolSize) out.push(0);
  return [...out, ...spawnKey];
}

function mixedPool(entropy: readonly number[], poolSize: number): Uint32Array {
  const hash = hasher(HASH_START, HASH_STEP);
  const pool = Uint32Array.from({ length: poolSize }, (_, i) => hash(entropy[i] ?? 0));
  for (let source = 0; source < poolSize; source++) {
    for (let target = 0; target < poolSize; target++) {
      if (source !== target) pool[target] = mix(pool[target]!, hash(pool[source]!));
    }
  }
  for (const word of entropy.slice(poolSize)) {
    for (let target = 0; target < poolSize; target++) pool[target] = mix(pool[target]!, hash(word));
  }
  return pool;
}

function hasher(start: number, step: number): (word: number) => number {
  let constant = start;
  return (word) => {
    const keyed = word ^ constant;
    constant = Math.imul(constant, step);
    const product = Math.imul(keyed, constant);
    return product ^ (product >>> 16);
  };
}

function mix(x: number, y: number): number {
  const difference = Math.imul(MIX_LEFT, x) - Math.imul(MIX_RIGHT, y);
  return difference ^ (difference >>> 16);
}
