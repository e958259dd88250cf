// Timings of earlier runs: kept line by line, read whatever happened to the file, and used where they can be compared.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { readTimings, recordTimings } from "../../src/cli/files/timings-file.js";
import { measuredEngine } from "../../src/edit/plan/measure.js";
import { estimateSession, type SessionTiming } from "../../src/edit/plan/timings.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { gemm } from "../../src/graph/operators.js";
import { float32 } from "../../src/std/tensor.js";
import { RUN_TYPESCRIPT } from "../support/golden.js";

const folder = await mkdtemp(join(tmpdir(), "qedit-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const TIMING: SessionTiming = {
  at: "2026-11-22T04:44:39.372Z",
  network: "transformer",
  device: "cpu",
  threads: 0,
  optimization: "none",
  weightBytes: 1000,
  openSeconds: 2,
  runs: 4,
  flops: 8e9,
  seconds: 4,
};

describe("recorded timings", () => {
  test("come back in order, from a folder that was not there", async () => {
    const path = join(folder, "new", "folder", "timings.jsonl");
    await recordTimings([TIMING], path);
    await recordTimings([{ ...TIMING, seconds: 5 }], path);
    expect(await readTimings(path)).toEqual([TIMING, { ...TIMING, seconds: 5 }]);
  });

  test("of no run at all make no file", async () => {
    await recordTimings([], join(folder, "none.jsonl"));
    expect(await readTimings(join(folder, "none.jsonl"))).toEqual([]);
    await expect(readFile(join(folder, "none.jsonl"))).rejects.toThrow("ENOENT");
  });

  test.each([
    ["cut off", '{"network":"the transf'],
    ["of another kind", '{"network":3}'],
    ["not JSON", "\0\0\0\xff"],
    ["impossible", JSON.stringify({ ...TIMING, seconds: 0 })],
    ["null", "null"],
  ])("survive a line that is %s", async (_, line) => {
    const path = join(folder, "damaged.jsonl");
    await writeFile(path, `${JSON.stringify(TIMING)}\n${line}\n`);
    await recordTimings([TIMING], path);
    expect(await readTimings(path)).toEqual([TIMING, TIMING]);
  });

  test("stay within bounds, the newest of them", async () => {
    const path = join(folder, "long.jsonl");
    await appendFile(path, `${JSON.stringify(TIMING)}\n`.repeat(3000));
    await recordTimings([{ ...TIMING, seconds: 7 }], path);
    const kept = await readTimings(path);
    expect(kept).toHaveLength(500);
    expect(kept.at(-1)!.seconds).toBe(7);
  });

  test("of several processes at once are all there, each line whole", async () => {
    const path = join(folder, "shared.jsonl");
    const module = new URL("../../src/cli/files/timings-file.ts", import.meta.url).href;
    const script = `const { recordTimings } = await import(${JSON.stringify(module)}); for (let i = 0; i < 50; i++) await recordTimings([${JSON.stringify(TIMING)}], ${JSON.stringify(path)});`;
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ["--import", RUN_TYPESCRIPT, "--input-type=module", "-e", script], {
        cwd: fileURLToPath(new URL("../..", import.meta.url)),
      }),
    );
    const codes = await Promise.all(children.map(async (child) => (await once(child, "exit"))[0]));
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(await readTimings(path)).toHaveLength(200);
    expect((await readFile(path, "utf8")).split("\n")).toHaveLength(201);
  });
});

describe("an estimate", () => {
  const { network, device, threads, optimization } = TIMING;
  const load = { network, device, threads, optimization, weightBytes: 2000, flops: 20e9, runs: 5 };

  test("takes the median speed of runs and of opening", () => {
    const timings = [TIMING, { ...TIMING, seconds: 2, openSeconds: 1 }, { ...TIMING, seconds: 400, openSeconds: 50 }];
    // 2 GFLOP a second, and 2 s for 1000 bytes.
    expect(estimateSession(load, timings)).toEqual({ open: 4, run: 10, basis: 3 });
  });

  test.each([
    ["another network", { network: "vae-decoder" }],
    ["another device", { device: "cuda:0" }],
    ["other threads", { threads: 2 }],
    ["weights that are widened when it opens", { optimization: "full" }],
    ["runs far smaller", { flops: 8e7 }],
    ["a model far smaller", { weightBytes: 10 }],
  ])("is not made from %s", (_, change) => {
    expect(estimateSession(load, [{ ...TIMING, ...change }])).toBeUndefined();
  });
});

test("an engine that is measured tells the operations and seconds of each session that ran", async () => {
  const graph = new Graph("a product");
  const x = graph.input("x", "f32", ["rows", 6]);
  graph.output("y", gemm(x, graph.constant("f32", [5, 6], new Array<number>(30).fill(1))));
  const timings: SessionTiming[] = [];
  const engine = measuredEngine(await directEngine({ provider: "cpu", index: 0, threads: 1 }), (timing) =>
    timings.push(timing),
  );
  const session = await engine.open(await modelOf(graph, "full"));
  await engine.open(await modelOf(graph, "none"));
  for (const rows of [3, 4]) await session.run({ x: float32([rows, 6]) });
  expect(timings).toEqual([]);
  await engine.dispose();
  expect(timings).toHaveLength(1);
  expect(timings[0]).toMatchObject({
    network: "a product",
    device: "cpu",
    threads: 1,
    optimization: "full",
    runs: 2,
    flops: 2 * 7 * 5 * 6,
    weightBytes: 0,
  });
  expect(timings[0]!.seconds).toBeGreaterThan(0);
  expect(timings[0]!.openSeconds).toBeGreaterThan(0);
});
