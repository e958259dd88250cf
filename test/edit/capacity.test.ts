// The arithmetic of `qedit plan --replicas`, against numbers of textbooks, the definition written out, and a simulated queue.
import { describe, expect, test } from "vitest";
import { type CapacityRequest, planCapacity, type WorkLoad } from "../../src/edit/plan/capacity.js";
import { deployValues } from "../../src/edit/plan/deploy-values.js";
import { erlangC, waiting } from "../../src/edit/plan/queueing.js";

/** Of sums of some tens of products. */
const EXACT = 12;

// a^c / c! × c / (c - a), over itself and the sum of a^k / k! below c.
function byDefinition(servers: number, load: number): number {
  let [term, below] = [1, 0];
  for (let k = 0; k < servers; k++) {
    below += term;
    term *= load / (k + 1);
  }
  const all = (term * servers) / (servers - load);
  return all / (below + all);
}

// Mulberry32: the same numbers on each machine.
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Waits of requests at servers that take them in order, sorted.
function simulatedWaits(servers: number, rate: number, seconds: (random: () => number) => number): number[] {
  const random = randomNumbers(servers);
  const free = new Array<number>(servers).fill(0);
  let now = 0;
  return Array.from({ length: 200_000 }, () => {
    now -= Math.log(1 - random()) / rate;
    const first = free.indexOf(Math.min(...free));
    const begun = Math.max(now, free[first]!);
    free[first] = begun + seconds(random);
    return begun - now;
  }).sort((a, b) => a - b);
}

describe("waiting", () => {
  test.each([
    [1, 0.7, 0.7],
    [2, 1, 1 / 3],
    [10, 8, 0.40918],
  ])("is as probable at %i servers and %d Erlangs as textbooks say", (servers, load, probability) => {
    expect(erlangC(servers, load)).toBeCloseTo(probability, 5);
  });

  test("is what the definition gives, also where powers and factorials overflow", () => {
    for (const [servers, load] of [
      [3, 2.9],
      [40, 31],
      [120, 100],
    ] as const)
      expect(erlangC(servers, load)).toBeCloseTo(byDefinition(servers, load), EXACT);
    expect(byDefinition(1000, 950)).toBeNaN();
    expect(erlangC(1000, 950)).toBeGreaterThan(0);
    expect(erlangC(1000, 950)).toBeLessThan(0.2);
  });

  test("agrees with a simulated queue, and is no less than that of edits that all take as long", () => {
    const [servers, rate, seconds] = [5, 0.4, 10];
    const planned = waiting(servers, rate, seconds);
    const varied = simulatedWaits(servers, rate, (random) => -seconds * Math.log(1 - random()));
    const equal = simulatedWaits(servers, rate, () => seconds);
    const mean = (waits: readonly number[]) => waits.reduce((sum, each) => sum + each, 0) / waits.length;
    const wait95 = (waits: readonly number[]) => waits[Math.floor(0.95 * waits.length)]!;
    expect(mean(varied) / planned.mean).toBeCloseTo(1, 1);
    expect(wait95(varied) / planned.wait95).toBeCloseTo(1, 1);
    expect(varied.filter((wait) => wait > 0).length / varied.length).toBeCloseTo(planned.share, 1);
    expect(mean(equal)).toBeLessThan(0.6 * planned.mean);
    expect(wait95(equal)).toBeLessThan(planned.wait95);
  });

  test("has no end where more comes than is done", () => {
    expect(waiting(2, 1, 2).mean).toBe(Number.POSITIVE_INFINITY);
  });
});

const RUN: WorkLoad = { work: "run", seconds: 12, weightBytes: 30e9, startSeconds: 120 };
const WANTED: CapacityRequest = {
  rate: 2,
  loads: [RUN],
  utilization: 0.8,
  burst: 0,
  wait: 60,
  bytes: { pictures: 6e6, result: 2e6, tensors: 10e6 },
};

describe("a plan of machines", () => {
  test("has as many replicas as keep the utilization, and half as many partitions more", () => {
    const plan = planCapacity(WANTED);
    // 24 are busy on average, 24 / 0.8 = 30.
    expect(plan.groups[0]).toMatchObject({ replicas: 30, bound: "utilization", busy: 0.8 });
    expect(plan).toMatchObject({ gpus: 30, partitions: 45, most: 2.5 });
    expect(plan.sustains).toBeCloseTo(2, EXACT);
  });

  test("has no replica more by a rounding of fractions", () => {
    expect(planCapacity({ ...WANTED, rate: 0.1, wait: 3600, loads: [{ ...RUN, seconds: 24 }] }).gpus).toBe(3);
  });

  test("has enough for a burst to be gone within the wait", () => {
    const [group] = planCapacity({ ...WANTED, burst: 50 }).groups;
    // 24 for the rate, 50 × 12 / 60 = 10 for the burst.
    expect(group).toMatchObject({ replicas: 34, steadyReplicas: 30, bound: "burst", burstSeconds: 60 });
  });

  test("has enough for 95 % of the edits to wait no longer than wanted, and one less would not do", () => {
    const [group] = planCapacity({ ...WANTED, utilization: 0.95, wait: 2 }).groups;
    expect(group!.bound).toBe("wait");
    expect(group!.waiting.wait95).toBeLessThanOrEqual(2);
    expect(waiting(group!.replicas - 1, 2, 12).wait95).toBeGreaterThan(2);
  });

  test("moves pictures and results, and tensors only between machines", () => {
    const { store } = planCapacity(WANTED);
    expect(store).toMatchObject({ reads: 16e6, writes: 16e6, bytesPerDay: 16e6 * 86_400, ofEdit: { tensors: 0 } });
    const loads = (["encode-image", "encode-prompt", "sample", "decode"] as const).map((work) => ({
      ...RUN,
      work,
      seconds: 3,
    }));
    // Both encoders read the pictures; tensors are written once and read once.
    expect(planCapacity({ ...WANTED, loads }).store).toMatchObject({
      reads: 2 * (2 * 6e6 + 2e6 + 10e6),
      writes: 2 * (6e6 + 2e6 + 10e6),
    });
  });

  test("counts no GPU for the stages that the manifests compute on the CPU", () => {
    const loads = (["encode-image", "encode-prompt", "sample", "decode"] as const).map((work) => ({
      ...RUN,
      work,
      seconds: 1,
    }));
    expect(planCapacity({ ...WANTED, loads })).toMatchObject({ replicas: 12, gpus: 6 });
  });

  test("reads the weights of each replica from the volume, and keeps replicas up where a start is longer than the wait", () => {
    const slow = planCapacity(WANTED);
    expect(slow.volume).toEqual({ bytes: 30 * 30e9, atOnce: (30 * 30e9) / 120, least: (30 * 30e9) / 900 });
    expect(slow.groups[0]).toMatchObject({ minReplicas: 30, editsWhileStarting: 240 });
    const fast = planCapacity({ ...WANTED, loads: [{ ...RUN, startSeconds: 30 }] });
    expect(fast.groups[0]!.minReplicas).toBe(0);
    const unknown = planCapacity({ ...WANTED, loads: [{ ...RUN, startSeconds: undefined, weightBytes: undefined }] });
    expect(unknown.groups[0]!.minReplicas).toBe(30);
    expect(unknown.volume).toEqual({ bytes: undefined, atOnce: undefined, least: undefined });
  });

  test("lets as many requests wait for a replica as it does within the wait, and counts the one in hand of those in Kafka", () => {
    expect(planCapacity(WANTED).groups[0]!.targets).toEqual({ lag: 6, queue: 5 });
    expect(planCapacity({ ...WANTED, wait: 6 }).groups[0]!.targets).toEqual({ lag: 1, queue: 1 });
    expect(planCapacity({ ...WANTED, wait: 3600 }).groups[0]!.targets).toEqual({ lag: 301, queue: 32 });
  });

  test("is refused where one topic cannot have so many workers", () => {
    expect(() => planCapacity({ ...WANTED, rate: 1e6 })).toThrow(
      /15000000 replicas for run: one topic has at most 10000/,
    );
    expect(() => planCapacity({ ...WANTED, burst: 1e6, wait: 1 })).toThrow(/replicas for run/);
  });
});

test("values of manifests are those of the plan, and never more workers than partitions", () => {
  const plan = planCapacity(WANTED);
  const values = deployValues(plan);
  const value = (path: string) => values.find((each) => each.path === path)!.value;
  expect(value("/spec/maxReplicaCount")).toBe(30);
  expect(value("/spec/triggers/0/metadata/lagThreshold")).toBe("6");
  expect(Number(value("/spec/template/spec/containers/0/args/4"))).toBeGreaterThanOrEqual(30);
});
