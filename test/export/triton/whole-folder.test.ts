import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { writeWholeFolder } from "../../../src/export/triton/whole-folder.js";
import { processName } from "../../../src/std/temporary-files.js";
import { temporaryFolder } from "../../support/folder.js";

const all = temporaryFolder();
const ownFolder = () => mkdtempSync(all.at("test-"));

const MARK = "mark.json";
const filled = (text: string) => (folder: string) => writeFile(join(folder, MARK), text);
const write = (path: string, text: string, force = false) =>
  writeWholeFolder(path, { force, mark: MARK }, filled(text));

/** A process of this machine that has ended. */
const GONE = `${processName().split("-")[0]}-999999999`;

test("a folder that is there is kept, and replaced where that is wanted", async () => {
  const parent = ownFolder();
  const path = join(parent, "made");
  await write(path, "one");
  await expect(write(path, "two")).rejects.toMatchObject({ code: "QEDIT_E_EXISTS" });
  expect(readFileSync(join(path, MARK), "utf8")).toBe("one");
  await write(path, "two", true);
  expect(readFileSync(join(path, MARK), "utf8")).toBe("two");
  expect(readdirSync(parent)).toEqual(["made"]);
});

test("a folder of another kind is never replaced", async () => {
  const path = join(ownFolder(), "photos");
  mkdirSync(path);
  writeFileSync(join(path, "cat.jpg"), "");
  await expect(write(path, "one", true)).rejects.toMatchObject({ code: "QEDIT_E_EXISTS" });
  expect(readdirSync(path)).toEqual(["cat.jpg"]);
});

test("nothing is left when filling fails, and what was there stays", async () => {
  const parent = ownFolder();
  const path = join(parent, "made");
  await write(path, "one");
  const failing = writeWholeFolder(path, { force: true, mark: MARK }, async (folder) => {
    await filled("two")(folder);
    throw new Error("no");
  });
  await expect(failing).rejects.toThrow("no");
  expect(readFileSync(join(path, MARK), "utf8")).toBe("one");
  expect(readdirSync(parent)).toEqual(["made"]);
});

test("a folder that comes up while one is written is kept", async () => {
  const parent = ownFolder();
  const path = join(parent, "made");
  const late = writeWholeFolder(path, { force: false, mark: MARK }, async (folder) => {
    await filled("late")(folder);
    await write(path, "early");
  });
  await expect(late).rejects.toMatchObject({ code: "QEDIT_E_EXISTS" });
  expect(readFileSync(join(path, MARK), "utf8")).toBe("early");
  expect(readdirSync(parent)).toEqual(["made"]);
});

test("what killed exports left is removed, and a folder that one had moved away comes back", async () => {
  const parent = ownFolder();
  mkdirSync(join(parent, `.qedit-${GONE}-0123456789abcdef.export`, "sample"), { recursive: true });
  const aside = join(parent, `.qedit-${GONE}-0123456789abcdef.other.old`);
  mkdirSync(aside);
  writeFileSync(join(aside, MARK), "other");
  await write(join(parent, "made"), "one");
  expect(readdirSync(parent).sort()).toEqual(["made", "other"]);
  expect(readFileSync(join(parent, "other", MARK), "utf8")).toBe("other");
});

test("what a running export writes is left alone", async () => {
  const parent = ownFolder();
  const running = `.qedit-${processName()}-0123456789abcdef.export`;
  mkdirSync(join(parent, running));
  await write(join(parent, "made"), "one");
  expect(readdirSync(parent).sort()).toEqual([running, "made"].sort());
});
