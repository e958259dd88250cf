// The partitions of requests: equal shares, and neighbours in time far apart.
import { expect, test } from "vitest";
import { partitionOf } from "../../../src/server/kafka/spread.js";

const STARTS = [0, 1, 7, 1000, 2 ** 20 + 3, 2 ** 31 - 5, 2 ** 32 + 9];
const turns = (start: number, length: number) => Array.from({ length }, (_, index) => start + index);

test("as many requests in a row as there are partitions go to each once", () => {
  for (const start of STARTS)
    for (const count of [1, 2, 4, 16, 64]) {
      const partitions = turns(start, count).map((turn) => partitionOf(turn, count));
      expect(new Set(partitions).size).toBe(count);
    }
});

test("partitions whose count is no power of two get equal shares too", () => {
  for (const count of [3, 6, 100]) {
    const shares = new Array<number>(count).fill(0);
    for (const turn of turns(12_345, 100 * count)) shares[partitionOf(turn, count)]! += 1;
    for (const share of shares) expect(Math.abs(share - 100)).toBeLessThanOrEqual(4);
  }
});

test("the first requests reach as many workers, each with partitions that are neighbours", () => {
  for (const start of STARTS)
    for (const workers of [2, 4, 8]) {
      const reached = turns(start, workers).map((turn) => Math.floor(partitionOf(turn, 16) / (16 / workers)));
      expect(new Set(reached).size).toBe(workers);
    }
});
