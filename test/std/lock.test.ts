// Lock files: one holder at a time, stale ones taken over, unreadable ones not believed.
import { existsSync, mkdirSync, readdirSync, utimesSync } from "node:fs";
import { hostname } from "node:os";
import { expect, test } from "vitest";
import { type Holder, withLock } from "../../src/std/lock.js";
import { temporaryFolder } from "../support/folder.js";
import { NO_PROCESS } from "../support/leftovers.js";

const folder = temporaryFolder();
const { signal } = new AbortController();
const waits: Holder[] = [];
const onWait = (holder: Holder) => void waits.push(holder);

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
  const refuse = () => {
    throw new Error("held");
  };
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
