// Child processes that are killed, that crash, and whose parent is killed: real processes and real signals.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, test, vi } from "vitest";
import { childEngine } from "../../src/engine/sessions/child.js";
import { withSession } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { float32 } from "../../src/std/tensor.js";
import { temporaryFolder } from "../support/folder.js";
import { RUN_TYPESCRIPT } from "../support/golden.js";
import { affineModel, longModel } from "./models.js";

const folder = temporaryFolder();
const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const KILLED = {
  code: "QEDIT_E_ENGINE",
  message: "The engine stopped: its process was killed by SIGKILL",
  hint: "Memory may have run out: see the system's log (`journalctl -k`)",
};

/** Matrix products that run for longer than a test waits: 20 seconds or more. */
const ENDLESS = 2000;

/** Milliseconds after which a run of ENDLESS is under way, and within which the end of a process must be noticed. */
const STARTED = 300;
const SOON = 15_000;

afterEach(() => {
  vi.unstubAllEnvs();
});

// Ids of the engine's child processes whose parent has this id.
function childrenOf(parent: number): number[] {
  return readdirSync("/proc").flatMap((name) => {
    try {
      // Fields after the name, which stands in brackets: the state, the parent's id (proc_pid_stat(5)).
      const [state, ppid] = readFileSync(`/proc/${name}/stat`, "utf8").split(") ").at(-1)!.split(" ");
      const isEngine = readFileSync(`/proc/${name}/cmdline`, "utf8").includes("child-process");
      return state !== "Z" && Number(ppid) === parent && isEngine ? [Number(name)] : [];
    } catch {
      return []; // not a process, or one that has ended
    }
  });
}

function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)![0] !== "Z";
  } catch {
    return false;
  }
}

describe.runIf(process.platform === "linux")("glibc's threshold for giving memory back", () => {
  const environmentOf = (pid: number) => readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");

  test.each([
    ["is set for the child", undefined, "131072"],
    ["is the user's where they set it", "1000000", "1000000"],
  ])("%s", async (_, own, wanted) => {
    vi.stubEnv("MALLOC_TRIM_THRESHOLD_", own);
    const engine = childEngine(CPU);
    await withSession(engine, affineModel(), async () => {
      const [child] = childrenOf(process.pid);
      expect(environmentOf(child!)).toContain(`MALLOC_TRIM_THRESHOLD_=${wanted}`);
    });
    await engine.dispose();
  });
});

describe.runIf(process.platform === "linux")("a child process that is killed", () => {
  test("fails the run under way at once; the next open starts another one, which computes the same bytes", async () => {
    const engine = childEngine(CPU);
    const { model, feeds } = await longModel(5);
    const before = await withSession(engine, model, (session) => session.run(feeds));
    const [pid] = childrenOf(process.pid) as [number];
    const endless = await longModel(ENDLESS);
    const [session, idle] = [await engine.open(endless.model), await engine.open(affineModel())];
    const run = expect(session.run(endless.feeds)).rejects.toMatchObject(KILLED);
    await delay(STARTED);
    const killed = performance.now();
    process.kill(pid, "SIGKILL");
    await run;
    expect(performance.now() - killed).toBeLessThan(SOON);

    await expect(idle.run({ x: float32([1, 3]) })).rejects.toMatchObject(KILLED);
    await Promise.all([session.dispose(), idle.dispose()]);
    expect(await withSession(engine, model, (again) => again.run(feeds))).toEqual(before);
    // The new process has sessions of the same numbers.
    await expect(idle.run({ x: float32([1, 3]) })).rejects.toMatchObject(KILLED);
    await engine.dispose();
    expect(childrenOf(process.pid)).toEqual([]);
  });

  test("during dispose is no error, and is not started again", async () => {
    const engine = childEngine(CPU);
    await engine.open(affineModel());
    const [pid] = childrenOf(process.pid) as [number];
    const disposed = engine.dispose();
    process.kill(pid, "SIGKILL");
    await disposed;
    await expect(engine.open(affineModel())).rejects.toMatchObject(KILLED);
    expect(childrenOf(process.pid)).toEqual([]);
  });

  test("does not affect the other one of a pair", async () => {
    const engine = pairedEngine(CPU, childEngine);
    const sessions = await Promise.all([engine.open(affineModel()), engine.open(affineModel())]);
    const [first, ...others] = childrenOf(process.pid) as [number, ...number[]];
    expect(others).toHaveLength(1);
    process.kill(first, "SIGKILL");
    const results = await Promise.allSettled(sessions.map((session) => session.run({ x: float32([1, 3]) })));
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    for (const session of await Promise.all([engine.open(affineModel()), engine.open(affineModel())]))
      expect((await session.run({ x: float32([1, 3]) }))["y"]?.shape).toEqual([1, 3]);
    await engine.dispose();
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("by %s keeps running: the parent decides", async (signal) => {
    const engine = childEngine(CPU);
    const session = await engine.open(affineModel());
    const [pid] = childrenOf(process.pid) as [number];
    process.kill(pid, signal);
    await delay(STARTED);
    expect((await session.run({ x: float32([1, 3]) }))["y"]?.shape).toEqual([1, 3]);
    await engine.dispose();
  });
});

describe("a child process that crashes", () => {
  // Makes every new Node process run this code first.
  const runFirst = (name: string, code: string) =>
    vi.stubEnv("NODE_OPTIONS", `--require ${folder.write(`${name}.cjs`, code)}`);

  test("has its last lines of stderr in the error, without control characters", async () => {
    runFirst(
      "crash",
      `const text = "first\\n\\u001b[31mterminate called\\u001b[0m\\r\\n  what():\\u0007 broken\\n\\nlast\\n";
      if (require("node:worker_threads").isMainThread) process.stderr.write(text, () => process.exit(7));`,
    );
    const engine = childEngine(CPU);
    await expect(engine.open(affineModel())).rejects.toMatchObject({
      code: "QEDIT_E_ENGINE",
      message: "The engine stopped: its process ended with 7: terminate called; what(): broken; last",
      hint: undefined,
    });
    vi.unstubAllEnvs();
    await withSession(engine, affineModel(), (session) => session.run({ x: float32([1, 3]) }));
    await engine.dispose();
  });

  test("reports what was thrown in its worker thread", async () => {
    runFirst("throw", `if (require("node:worker_threads").workerData?.provider) throw new Error("no such thing");`);
    const engine = childEngine(CPU);
    await expect(engine.open(affineModel())).rejects.toMatchObject({
      message: "The engine stopped: its process ended with 1: no such thing",
    });
    await engine.dispose();
  });
});

describe.runIf(process.platform === "linux")("the parent of a child process", () => {
  const module = (name: string) => new URL(name, import.meta.url).href;
  const start = `import { childEngine } from "${module("../../src/engine/sessions/child.ts")}";
    import { affineModel, longModel } from "${module("models.ts")}";
    const engine = childEngine(${JSON.stringify(CPU)});`;

  test("ends it when killed in the middle of a run", async () => {
    const path = folder.write(
      "parent.mjs",
      `${start}
      const { model, feeds } = await longModel(${ENDLESS});
      const session = await engine.open(model);
      const run = session.run(feeds);
      setTimeout(() => console.log("running"), ${STARTED});
      await run;`,
    );
    const parent = spawn(process.execPath, ["--import", RUN_TYPESCRIPT, path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(parent.stdout, "data");
    const [pid] = childrenOf(parent.pid!) as [number];
    parent.kill("SIGKILL");
    await once(parent, "exit");
    await vi.waitFor(() => expect(isRunning(pid)).toBe(false), SOON);
  });

  test("prints its own data alone, and can end after dispose", async () => {
    const noise = folder.write(
      "noise.cjs",
      'if (process.argv[1]?.includes("child-process")) { console.log("noise"); console.error("noise"); }',
    );
    const path = folder.write(
      "quiet.mjs",
      `${start}
      await engine.open(affineModel());
      await engine.dispose();
      console.log("data");`,
    );
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--import", RUN_TYPESCRIPT, path], {
      env: { ...process.env, NODE_OPTIONS: `--require ${noise}` },
    });
    expect([stdout, stderr]).toEqual(["data\n", ""]);
  });
});
