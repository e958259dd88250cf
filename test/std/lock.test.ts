// Lock files: one holder at a time, stale ones taken over, unreadable ones not believed.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync } from "node:fs";
import { hostname } from "node:os";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Holder, withLock } from "../../src/std/lock.js";
import { ownOrigin } from "../../src/std/process-origin.js";
import { temporaryFolder } from "../support/folder.js";
import { NO_PROCESS } from "../support/leftovers.js";

const folder = temporaryFolder();
const { signal } = new AbortController();
const waits: Holder[] = [];
const onWait = (holder: Holder) => void waits.push(holder);
const refuse = () => {
  throw new Error("held");
};

function locked(name: string, content: string): string {
  folder.write(`${name}.lock`, content);
  return folder.at(name);
}

test("holds the lock during the work, and releases it when the work fails", async () => {
  const target = folder.at("one");
  const work = withLock(target, { signal, onWait }, async () => {
    expect(existsSync(`${target}.lock`)).toBe(true);
    throw new Error("failed");
  });
  await expect(work).rejects.toThrow("failed");
  expect(readdirSync(folder.at("."))).toEqual([]);
});

test("runs the work of two callers one after the other", async () => {
  const order: string[] = [];
  const work = (name: string) => async () => {
    order.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    order.push(`${name} ends`);
  };
  await Promise.all(["a", "b"].map((name) => withLock(folder.at("two"), { signal, onWait }, work(name))));
  expect(order.map((event) => event.split(" ")[1])).toEqual(["begins", "ends", "begins", "ends"]);
  expect(waits).toContainEqual({ pid: process.pid, host: hostname() });
});

test("takes over the lock of a process that is gone", async () => {
  const target = locked("gone", JSON.stringify({ pid: NO_PROCESS, host: hostname() }));
  expect(await withLock(target, { signal, onWait }, async () => 1)).toBe(1);
});

test("does not wait when onWait throws", async () => {
  const target = locked("held", JSON.stringify({ pid: process.pid, host: hostname() }));
  await expect(withLock(target, { signal, onWait: refuse }, async () => 1)).rejects.toThrow("held");
});

test.each(["", "123", "null", "[]", '{"pid":"1","host":"x"}', '{"__proto__":{"pid":1,"host":"x"}}'])(
  "takes over a stale lock whose content is %j",
  async (content) => {
    const target = locked("torn", content);
    utimesSync(`${target}.lock`, 0, 0);
    expect(await withLock(target, { signal, onWait }, async () => 1)).toBe(1);
  },
);

test.each([
  ["of a running process that has not touched it for a minute", -120],
  ["that says it was touched tomorrow", 24 * 3600],
])("takes over a lock %s", async (name, seconds) => {
  const target = locked(`pid ${seconds}`, JSON.stringify({ pid: process.ppid, host: hostname() }));
  const at = Date.now() / 1000 + seconds;
  utimesSync(`${target}.lock`, at, at);
  expect(await withLock(target, { signal, onWait }, async () => name)).toBe(name);
});

test("refuses a lock that is a folder, by its name", async () => {
  mkdirSync(folder.at("folder.lock"));
  const work = withLock(folder.at("folder"), { signal, onWait }, async () => 1);
  await expect(work).rejects.toMatchObject({ code: "QEDIT_E_IO", message: expect.stringContaining("folder.lock") });
});

test("stops waiting when the signal aborts", async () => {
  const target = locked("other", JSON.stringify({ pid: 1, host: "another host" }));
  const controller = new AbortController();
  const work = withLock(
    target,
    { signal: controller.signal, onWait: () => controller.abort(new Error("stopped")) },
    () => Promise.resolve(1),
  );
  await expect(work).rejects.toThrow("stopped");
});

const own = await ownOrigin();

describe.skipIf(own === undefined)("a lock of this host's name", () => {
  const by = (pid: number, changed: object) =>
    JSON.stringify({ pid, host: hostname(), origin: { ...own, ...changed } });
  const attempt = (target: string) =>
    withLock(target, { signal, onWait: refuse }, async () => "taken").catch((error: Error) => error.message);
  const touchedBefore = (target: string, seconds: number) => {
    const at = Date.now() / 1000 - seconds;
    utimesSync(`${target}.lock`, at, at);
  };

  test("is taken over at once when its process id is now another process's, such as 1 in a container", async () => {
    expect(await attempt(locked("pid 1", by(process.pid, { started: "1" })))).toBe("taken");
  });

  test("is not taken over while its process runs", async () => {
    expect(await attempt(locked("running", by(process.pid, {})))).toBe("held");
  });

  test.each([
    ["another machine", { boot: "another" }],
    ["another container", { namespace: "pid:[1]", container: "another" }],
    ["a namespace that is no known container", { namespace: "pid:[1]", container: "" }],
  ])("is not taken over by the ids of processes here when it is of %s", async (name, changed) => {
    const target = locked(name, by(NO_PROCESS, changed));
    touchedBefore(target, 50);
    expect(await attempt(target)).toBe("held");
  });
});

// Namespaces of their own, with the same host name: what two containers are to each other, and a container to itself before its restart.
const namespaced = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"];
const hasNamespaces = spawnSync("unshare", [...namespaced, "true"]).status === 0;
if (!hasNamespaces) console.warn("Locks were not tried between namespaces of processes: unshare needs Linux and root");

describe.skipIf(!hasNamespaces)("in namespaces of processes", () => {
  const [holder, hooks] = ["../support/hold-lock.ts", "../support/run-typescript.mjs"].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  ) as [string, string];
  // `skipped`: process ids that are used up before, more than a process has threads. `mount`: what kubelet mounts into a container, in a folder pods/POD/containers/NAME.
  async function holds(
    target: string,
    { skipped = 0, mount }: { readonly skipped?: number; readonly mount?: string },
  ): Promise<{ said: string; child: ChildProcess }> {
    const mounted = mount === undefined ? "" : `mount --bind ${mount} ${folder.write("termination-log", "")}; `;
    const script = `${mounted}for i in $(seq ${skipped}); do /bin/true; done; "$@"; exit`;
    const command = ["sh", "-c", script, "-", process.execPath, "--import", hooks, holder, target];
    const child = spawn("unshare", [...namespaced, ...command], { stdio: ["ignore", "pipe", "inherit"] });
    const [said] = (await once(child.stdout!, "data")) as [Buffer];
    return { said: said.toString().trim(), child };
  }

  test("two holders do not break each other's locks, whatever their process ids are", async () => {
    const target = folder.at("two containers");
    const first = await holds(target, { skipped: 100 });
    expect(first.said).toBe("held");
    expect((JSON.parse(readFileSync(`${target}.lock`, "utf8")) as Holder).pid).toBeGreaterThan(100);
    const second = await holds(target, {});
    for (const { child } of [first, second]) child.kill("SIGKILL");
    expect(second.said).toBe("refused");
  });

  test("a container that was started again waits until 15 s after its lock was last touched, and takes it over", async () => {
    const target = folder.at("restarted");
    const start = (name: string, instance: number) => {
      mkdirSync(folder.at(`pods/1/containers/${name}`), { recursive: true });
      return holds(target, { mount: folder.write(`pods/1/containers/${name}/${instance}`, "") });
    };
    const first = await start("qedit", 1);
    expect(first.said).toBe("held");
    const ended = once(first.child, "exit");
    first.child.kill("SIGKILL");
    await ended;
    const at = Date.now() / 1000 - 14;
    utimesSync(`${target}.lock`, at, at);
    expect((await start("other", 1)).said).toBe("refused");
    const began = performance.now();
    const second = await start("qedit", 2);
    second.child.kill("SIGKILL");
    expect(second.said).toBe("held");
    expect(performance.now() - began).toBeGreaterThan(500);
  });
});
