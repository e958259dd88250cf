// Noise of one Brownian path that is queried at any pair of times: torchsde 0.2.6, BrownianTree with its defaults
// (https://github.com/google-research/torchsde/blob/v0.2.6/torchsde/_brownian/brownian_interval.py), levy area none.

import { roundHalfEven } from "../../std/rounding.js";
import { weightedSum } from "../float32.js";
import { randn } from "./noise.js";
import { seedSequence } from "./seed-sequence.js";

/** Words in numpy's entropy pool: torchsde's default for a tree. */
const POOL_SIZE = 24;
/** Times are rounded to this many decimals: torchsde's tolerance of 1e-6. */
const DECIMALS = 6;

const f32 = Math.fround;

/** Which path: the same seed, count and times give the same noise. */
export interface BrownianOptions {
  /** 0..2^64 - 1; all bits count. */
  readonly seed: bigint;
  /** Values of one increment. */
  readonly count: number;
  /** Ends of the time line; queries outside are moved to them. */
  readonly low: number;
  readonly high: number;
}

/** Noise of variance 1 for the stretch between two times, in either order. */
export type BrownianNoise = (from: number, to: number) => Float32Array;

/** A dyadic part of the time line, and the increment of the path over it. */
interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly depth: number;
  readonly key: number;
  readonly increment: Float32Array;
}

/** A Brownian path on [low, high]. From a later to an earlier time the sign is negated, as ComfyUI's sampler has it. */
export function brownianNoise(options: BrownianOptions): BrownianNoise {
  const { seed, count, low, high } = options;
  const [rootSeed] = seedSequence({ entropy: seed, spawnKey: [], poolSize: POOL_SIZE }, 1);
  const increment = weightedSum([Math.sqrt(high - low), randn(rootSeed!, count)]);
  const root: Stretch = { start: rounded(low), end: rounded(high), depth: 0, key: 0, increment };
  const within = (time: number): number => rounded(Math.min(Math.max(time, root.start), root.end));
  return (from, to) => {
    const parts: Float32Array[] = [];
    collect({ seed, parts }, root, [within(Math.min(from, to)), within(Math.max(from, to))]);
    const [first = new Float32Array(count), ...rest] = parts;
    const sum = weightedSum([1, first], ...rest.map((part) => [1, part] as const));
    const sign = from < to ? 1 : -1;
    const deviation = f32(Math.sqrt(Math.abs(f32(to - from))));
    return sum.map((value) => (sign * value) / deviation);
  };
}

interface Query {
  readonly seed: bigint;
  readonly parts: Float32Array[];
}

// Pushes the increments of the largest dyadic stretches that make up [from, to], left to right.
function collect(query: Query, stretch: Stretch, [from, to]: readonly [number, number]): void {
  const { start, end } = stretch;
  if (from >= to) return;
  if (from === start && to === end) {
    query.parts.push(stretch.increment);
    return;
  }
  const middle = rounded(0.5 * (end + start));
  const [left, right] = halves(stretch, middle, query.seed);
  if (from < middle) collect(query, left, [from, Math.min(to, middle)]);
  if (to > middle) collect(query, right, [Math.max(from, middle), to]);
}

// The bridge: the left half is normal about its share of the whole increment, the right half is the rest.
function halves(
  { start, end, depth, key, increment }: Stretch,
  middle: number,
  seed: bigint,
): readonly [Stretch, Stretch] {
  const reciprocal = 1 / (end - start);
  const before = f32(middle - start);
  const share = f32(reciprocal);
  const deviation = Math.sqrt((middle - start) * (end - middle) * reciprocal);
  const [nodeSeed] = seedSequence({ entropy: seed, spawnKey: [key, depth], poolSize: POOL_SIZE }, 1);
  const mean = increment.map((value) => f32(before * value) * share);
  const left = weightedSum([1, mean], [deviation, randn(nodeSeed!, increment.length)]);
  const right = weightedSum([1, increment], [-1, left]);
  return [
    { start, end: middle, depth: depth + 1, key: 2 * key, increment: left },
    { start: middle, end, depth: depth + 1, key: 2 * key + 1, increment: right },
  ];
}

// Python's round(time, 6). Only odd multiples of 1/128 lie exactly between two decimals; Python takes the even one, toFixed the larger.
function rounded(time: number): number {
  if (!Number.isInteger(time * 128)) return Number(time.toFixed(DECIMALS));
  return roundHalfEven(time * 10 ** DECIMALS) / 10 ** DECIMALS;
}
