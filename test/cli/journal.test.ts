// The journal of a batch: what was told survives, whatever the process's end left at the end of the file.
import { appendFileSync, mkdtempSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type JournalEntry, lenient, openJournal } from "../../src/cli/jobs/journal.js";

const folder = mkdtempSync(join(tmpdir(), "qedit-journal-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const entry = (state: JournalEntry["state"], others: Partial<JournalEntry> = {}): JournalEntry => ({
  output: "/out/1.png",
  line: 1,
  content: "c1",
  state,
  ...(state === "failed" ? {} : { hash: "h1" }),
  ...others,
});

async function journal(name: string, entries: readonly JournalEntry[]) {
  const path = join(folder, name);
  const opened = await openJournal(path);
  for (const each of entries) await opened.append(each);
  await opened.close();
  return path;
}

test("tells again what was appended, in a folder that did not exist", async () => {
  const path = await journal("deep/er/one.jsonl", [entry("writing"), entry("done")]);
  const again = await openJournal(path);
  expect(again.made("/out/1.png")).toMatchObject({ state: "done", hash: "h1", content: "c1" });
  expect(again.made("/out/2.png")).toBeUndefined();
  expect(again.hasFailed("/out/1.png", 1)).toBe(false);
  await again.close();
});

test("is not spoilt by half a line at its end", async () => {
  const path = await journal("torn.jsonl", [entry("done")]);
  appendFileSync(path, '{"output":"/out/2.png","li');
  const again = await openJournal(path);
  expect(again.made("/out/1.png")?.state).toBe("done");
  await again.append(entry("done", { output: "/out/3.png", line: 3 }));
  await again.close();
  const third = await openJournal(path);
  expect(third.made("/out/3.png")?.state).toBe("done");
  await third.close();
  expect(readFileSync(path, "utf8").split("\n")).toHaveLength(4);
});

test.each([
  "null",
  "[]",
  '{"line":1}',
  '{"line":0,"state":"done"}',
  '{"line":"1","state":"done"}',
  '{"line":1,"state":"gone"}',
  '{"line":1,"state":"done","output":2}',
  '{"line":1,"state":"done","output":"/out/1.png","hash":{}}',
  '{"line":1,"state":"failed","output":"/out/1.png","error":"no"}',
  '{"__proto__":{"line":1,"state":"failed"}}',
])("ignores the damaged line %s", async (line) => {
  const path = await journal("damaged.jsonl", [entry("done")]);
  appendFileSync(path, `${line}\n`);
  const again = await openJournal(path);
  expect(again.made("/out/1.png")).toMatchObject({ state: "done", hash: "h1" });
  expect(again.hasFailed("/out/1.png", 1)).toBe(false);
  await again.close();
});

test("a failure does not make an earlier result forgotten, and is what --last-failed looks at", async () => {
  const again = await openJournal(await journal("failed.jsonl", [entry("done"), entry("failed")]));
  expect(again.made("/out/1.png")?.state).toBe("done");
  expect(again.hasFailed("/out/1.png", 1)).toBe(true);
  await again.append(entry("done"));
  expect(again.hasFailed("/out/1.png", 1)).toBe(false);
  await again.close();
});

test("a line that was no job is known by its number once it was mended", async () => {
  const again = await openJournal(
    await journal("line.jsonl", [entry("failed", { output: undefined, content: undefined, line: 7 })]),
  );
  expect(again.hasFailed("/out/new.png", 7)).toBe(true);
  expect(again.hasFailed("/out/new.png", 8)).toBe(false);
  await again.close();
});

test("a journal that cannot be written is an error with the path", async () => {
  await journal("file", [entry("done")]);
  await expect(openJournal(join(folder, "file/below.jsonl"))).rejects.toMatchObject({
    code: "QEDIT_E_IO",
    message: expect.stringContaining("file/below.jsonl"),
  });
});

test("goes on without what cannot be written, where that is asked for", async () => {
  const opened = await openJournal(join(folder, "closed.jsonl"));
  await opened.close();
  await expect(opened.append(entry("writing"))).rejects.toMatchObject({ code: "QEDIT_E_IO" });
  const lost: string[] = [];
  const kept = lenient(opened, ({ code }) => void lost.push(code));
  await kept.append(entry("done"));
  expect(lost).toEqual(["QEDIT_E_IO"]);
  expect(kept.made("/out/1.png")?.state).toBe("done");
});
