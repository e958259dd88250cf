// Which partition a request goes to, so that a few requests reach as many workers: each has partitions that are neighbours.

/**
 * The partition, of `count`, of the request that a client sends as number `turn`: the van der Corput sequence of base 2, each next one far from those before.
 * As many in a row as there are partitions go to each once, if their count is a power of two.
 */
export function partitionOf(turn: number, count: number): number {
  let reversed = 0;
  for (let bit = 0; bit < 32; bit++) reversed = ((reversed << 1) | ((turn >>> bit) & 1)) >>> 0;
  return Math.floor((reversed / 2 ** 32) * count);
}
