// The file of --events: a log of an earlier call is replaced, and nothing else ever is.
import { copyFileSync, existsSync, linkSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { done, jsonLines, TINY } from "./jobs.js";
import { CAT, expectRefusal, qedit, shell, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", CAT, "-p", "make it red", ...TINY];
const EVENT = { event: "note", time: "2026-01-02T03:04:05.678Z", elapsed: 0.1, text: "x", memory: 1 };

function file(name: string, content: string | Uint8Array): Buffer {
  writeFileSync(folder.at(name), content);
  return readFileSync(folder.at(name));
}

describe("--events refuses a file that is there, with --force too, and leaves it as it is", () => {
  const line = JSON.stringify(EVENT);
  test.each([
    ["a picture", readFileSync(CAT)],
    ["a text", "my notes\n"],
    ["lines of JSON without events", '{"images":["a.jpg"]}\n'],
    ["events of another program", '{"event":"click","user":3}\n'],
    ["a log with lines of somebody else before its end", `${line}\nmy notes\n${line}\n`],
    ["a log with lines of somebody else at its end", `${line}\nmy notes\n`],
  ])("%s", async (_, content) => {
    const before = file("taken", content);
    for (const force of [[], ["--force"]]) {
      expectRefusal(await qedit([...RUN, "-o", "no.png", "--events", "taken", ...force], here), {
        code: 2,
        message: /Cannot write events to taken: it is there already, and no log of events/,
        hint: /another name/,
      });
      expect(readFileSync(folder.at("taken")).equals(before)).toBe(true);
    }
    expect(existsSync(folder.at("no.png"))).toBe(false);
  });
});

test.each([
  ["a log of an earlier call", `${JSON.stringify(EVENT)}\n`],
  ["a log whose last line was cut off", `${JSON.stringify(EVENT)}\n${JSON.stringify(EVENT).slice(0, 30)}`],
  ["an empty file", ""],
])("--events replaces %s", async (_, content) => {
  file("old.ndjson", content);
  await done(["explain", "--events", "old.ndjson"], here);
  expect(readFileSync(folder.at("old.ndjson"), "utf8")).toBe("");
  file("old.ndjson", content);
  await done([...RUN, "-o", "logged.png", "--force", "--events", "old.ndjson"], here);
  expect(jsonLines<typeof EVENT>(readFileSync(folder.at("old.ndjson"), "utf8")).map(({ text }) => text)).not.toContain(
    "x",
  );
});

describe("--events refuses the path of another file of the call before anything is opened, with --force too", () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  symlinkSync("cat.jpg", folder.at("link.jpg"));
  linkSync(folder.at("cat.jpg"), folder.at("hard.jpg"));
  const run = ["run", "cat.jpg", "-p", "x", ...TINY];
  test.each([
    ["the input", [...run, "-o", "a.png", "--events", "./cat.jpg"], /--events to \.\/cat\.jpg: it is an input/],
    ["a link to the input", [...run, "-o", "a.png", "--events", "link.jpg"], /--events to link\.jpg: it is an input/],
    ["another name of the input", [...run, "-o", "a.png", "--events", "hard.jpg"], /hard\.jpg: it is there already/],
    ["the mask", [...run, "--paste-back", "--mask", "m.png", "--events", "m.png"], /m\.png: it is that of --mask/],
    ["the result", [...run, "-o", "b.png", "--events", "b.png"], /--events to b\.png: it is that of --output/],
    ["the sheet", [...run, "--sheet", "s.png", "-o", "a.png", "--events", "s.png"], /s\.png: it is that of --sheet/],
    ["the record of a comparison", ["diff", "cat.jpg", CAT, "-o", "d.png", "--events", "d.png"], /that of --output/],
  ])("%s", async (_, args, message) => {
    const before = folder.names();
    for (const more of [[], ["--force"]]) expectRefusal(await qedit([...args, ...more], here), { code: 2, message });
    expect(folder.names()).toEqual(before);
    expect(readFileSync(folder.at("cat.jpg")).equals(readFileSync(CAT))).toBe(true);
  });

  test.each([
    ["of a name that qedit chose", [...run, "--events", "cat-edit.png"], "cat-edit.png"],
    ["of a seed", [...run, "--seeds", "1,2", "-o", "n.png", "--events", "n-seed2.png"], "n-seed2.png"],
    ["of decode", ["decode", "kept.safetensors", "--events", "kept.png"], "kept.png"],
  ])("a result %s", async (_, args, name) => {
    for (const force of [[], ["--force"]])
      expectRefusal(await qedit([...args, ...force], here), {
        code: 2,
        message: new RegExp(`Cannot write ${name}: --events goes there`),
      });
  });
});

test("--events goes on behind what a file holds that the shell has opened", async () => {
  file("shell.log", "my notes\n");
  const { code, stderr } = await shell(`qedit run '${CAT}' --events /dev/stderr 2>> shell.log`, folder.path);
  expect([code, stderr]).toEqual([2, ""]);
  expect(readFileSync(folder.at("shell.log"), "utf8")).toMatch(/^my notes\n/);
});

test("a log that cannot be written any more is warned of, and the edit goes on", async () => {
  const ended = await qedit([...RUN, "-o", "full.png", "--events", "/dev/full"], here);
  expect([ended.code, ended.stderr]).toEqual([
    0,
    expect.stringMatching(/^warning: events are not kept any more: Cannot write \/dev\/full: no space is left/m),
  ]);
});
