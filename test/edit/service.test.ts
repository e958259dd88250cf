// The edit service with the tiny networks on the CPU: many edits at a time, cancelling, full queues, several devices, engines that are killed.
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { openCache } from "../../src/artifacts/artifact-cache.js";
import type { ServiceEvent } from "../../src/edit/service/job.js";
import type { ServiceOptions } from "../../src/edit/service/service.js";
import { tinyEdit } from "../support/edits.js";
import { temporaryFolder } from "../support/folder.js";
import { states, watched, withService } from "../support/services.js";

const folder = temporaryFolder();

describe("jobs", () => {
  test("edits that come while others are worked on wait in line, first in, first out", async () => {
    await withService({}, async ({ service, events }) => {
      const jobs = [service.submit(await tinyEdit())];
      await new Promise((resolve) => setImmediate(resolve));
      for (const seed of ["1", "2", "3"]) jobs.push(service.submit(await tinyEdit({ settings: { seed } })));
      expect(states(await Promise.all(jobs.map(({ outcome }) => outcome)))).toEqual(Array(4).fill("done"));
      const decoded = events.flatMap((event) => (event.kind === "end" && event.stage === "decode" ? [event.id] : []));
      expect(decoded).toEqual(jobs.map(({ id }) => id));
    });
  });

  test("every event of an edit has its job's id", async () => {
    await withService({}, async ({ service, events }) => {
      const { id, outcome } = service.submit(await tinyEdit());
      await outcome;
      const staged = events.filter(({ kind }) => ["start", "step", "end"].includes(kind));
      expect(staged.length).toBeGreaterThan(8);
      expect(new Set(staged.map((event) => event.id))).toEqual(new Set([id]));
    });
  });

  test("an edit that fails leaves the others alone", async () => {
    await withService({ concurrency: 2, memory: Infinity }, async ({ service }) => {
      const edits = [
        await tinyEdit(),
        await tinyEdit({ settings: { seed: "1" } }),
        await tinyEdit({ settings: { seed: "2" } }),
      ];
      edits[1] = { ...edits[1]!, pictures: () => Promise.reject(new Error("gone")) };
      const outcomes = await Promise.all(service.submitAll(edits).map(({ outcome }) => outcome));
      expect(states(outcomes)).toEqual(["done", "failed", "done"]);
    });
  });
});

describe("the queue", () => {
  test("refuses more than it may hold, and takes them when there is room again", async () => {
    await withService({ maxQueue: 2 }, async ({ service }) => {
      const more = await tinyEdit({ settings: { seed: "2" } });
      const jobs = service.submitAll([await tinyEdit(), await tinyEdit({ settings: { seed: "1" } })]);
      expect(() => service.submit(more)).toThrow(expect.objectContaining({ code: "QEDIT_E_BUSY" }));
      await Promise.all(jobs.map(({ outcome }) => outcome));
      expect((await service.submit(more).outcome).state).toBe("done");
    });
  });

  test("a cancelled edit ends between two steps, and the next one is made", async () => {
    await withService({}, async ({ service, events }) => {
      const long = service.submit(await tinyEdit({ settings: { steps: 5000 } }));
      const next = service.submit(await tinyEdit({ settings: { seed: "1" } }));
      await expect
        .poll(() => events.some((event) => event.kind === "step" && event.step > 1), { timeout: 60_000 })
        .toBe(true);
      long.cancel();
      expect(await long.outcome).toMatchObject({ state: "failed", error: { code: "QEDIT_E_INTERRUPTED" } });
      expect((await next.outcome).state).toBe("done");
    });
  });

  test("an edit that is cancelled while it waits is not begun", async () => {
    await withService({}, async ({ service, events }) => {
      const [first, second] = service.submitAll([await tinyEdit(), await tinyEdit({ settings: { seed: "1" } })]);
      second!.cancel();
      expect(await second!.outcome).toMatchObject({ state: "failed", error: { code: "QEDIT_E_INTERRUPTED" } });
      expect((await first!.outcome).state).toBe("done");
      expect(events.filter((event) => event.kind === "start" && event.id === second!.id)).toEqual([]);
    });
  });

  test("a service that is stopped rejects what it holds, with the reason", async () => {
    const stop = new AbortController();
    await withService({ signal: stop.signal }, async ({ service, events }) => {
      const jobs = service.submitAll([
        await tinyEdit({ settings: { steps: 5000 } }),
        await tinyEdit({ settings: { seed: "1" } }),
      ]);
      await expect.poll(() => events.some(({ kind }) => kind === "start"), { timeout: 60_000 }).toBe(true);
      stop.abort(new Error("stopped"));
      for (const { outcome } of jobs) await expect(outcome).rejects.toThrow("stopped");
    });
  });
});

describe("sessions", () => {
  test("stay open between jobs for as long as they are kept, and close with the service", async () => {
    const { opened, closed } = await withService({ keepAlive: 60_000 }, async ({ service, events }) => {
      for (const seed of ["1", "2"]) await service.submit(await tinyEdit({ settings: { seed } })).outcome;
      const count = (action: string) => () =>
        events.filter((event) => event.kind === "session" && event.action === action).length;
      return { opened: count("opened"), closed: count("closed") };
    });
    expect([opened(), closed()]).toEqual([5, 5]);
  });
});

describe("results of earlier edits", () => {
  test("are found in the cache that a service is given, and nowhere else", async () => {
    const cache = openCache(folder.at("cache"), Number.POSITIVE_INFINITY);
    const hits = (events: readonly ServiceEvent[]) =>
      events.flatMap((event) => (event.kind === "cache" && event.action === "hit" ? [event.stage] : []));
    const edited = (options: Partial<ServiceOptions>) =>
      withService(options, async ({ service, events }) => {
        await service.submit(await tinyEdit()).outcome;
        return hits(events);
      });
    expect(await edited({ cache })).toEqual([]);
    expect(await edited({ cache })).toEqual(["encode-image", "encode-prompt", "sample"]);
    expect(await edited({})).toEqual([]);
  });
});

// The pids of processes whose parent is this one and whose command line names the engine's entry.
function engineProcesses(): number[] {
  const list = execFileSync("ps", ["-o", "pid=,ppid=,args=", "--ppid", String(process.pid)], { encoding: "utf8" });
  return list
    .split("\n")
    .filter((line) => line.includes("child-process"))
    .map((line) => Number(line.trim().split(/\s+/)[0]));
}

describe.runIf(process.platform === "linux")("an engine in a process of its own", () => {
  test("gives the same bytes as one in a thread", async () => {
    const [threaded, isolated] = [await watched(), await watched()];
    await withService({}, async ({ service }) => service.submit(threaded.edit).outcome);
    await withService({ isolation: "process" }, async ({ service }) => service.submit(isolated.edit).outcome);
    expect(Buffer.from(isolated.bytes()!).equals(threaded.bytes()!)).toBe(true);
  });

  test("that is killed fails the edit under way with a clear error, and the next edit runs", async () => {
    await withService({ isolation: "process", keepAlive: 60_000 }, async ({ service, events }) => {
      const long = service.submit(await tinyEdit({ settings: { steps: 5000 } }));
      const next = await watched({ settings: { seed: "1" } });
      const later = service.submit(next.edit);
      await expect
        .poll(() => events.some((event) => event.kind === "step" && event.step > 1), { timeout: 60_000 })
        .toBe(true);
      for (const pid of engineProcesses()) process.kill(pid, "SIGKILL");
      expect(await long.outcome).toMatchObject({
        state: "failed",
        error: { code: "QEDIT_E_ENGINE", message: expect.stringMatching(/killed|SIGKILL/), hint: expect.any(String) },
      });
      expect(await later.outcome).toMatchObject({ state: "done" });
      expect(next.bytes()!.length).toBeGreaterThan(0);
    });
    await expect.poll(engineProcesses, { timeout: 10_000 }).toEqual([]);
  });
});
