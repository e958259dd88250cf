// Writes that happen completely or not at all, and reads that end.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { expect, test, vi } from "vitest";
import { readBounded, readTextFile, writeFileAtomically } from "../../src/std/files.js";
import { removeTemporaryFiles } from "../../src/std/temporary-files.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();
const NEW = Buffer.from("new");

test("a file is made with the folders it lies in, and replaced as a whole", async () => {
  const path = folder.at("deep/er/file");
  await writeFileAtomically(path, Buffer.from("a longer text than the next"));
  await writeFileAtomically(path, NEW);
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(folder.names().filter((name) => name.startsWith("deep"))).toEqual(["deep", "deep/er", "deep/er/file"]);
});

test("a file that came into being meanwhile stays, unless it may be replaced", async () => {
  const path = folder.write("mine/taken", "mine");
  await expect(writeFileAtomically(path, NEW, { overwrite: false })).rejects.toMatchObject({ code: "QEDIT_E_EXISTS" });
  expect(readFileSync(path, "utf8")).toBe("mine");
  expect(folder.names().filter((name) => name.startsWith("mine/"))).toEqual(["mine/taken"]);
});

test("a write that fails leaves nothing behind", async () => {
  mkdirSync(folder.at("failing"));
  const writing = writeFileAtomically(folder.at("failing/file"), NEW, { overwrite: false });
  // Stands in the way once the bytes are written.
  mkdirSync(folder.at("failing/file"));
  await expect(writing).rejects.toMatchObject({ code: expect.stringMatching(/^QEDIT_E_(EXISTS|IO)$/) });
  expect(folder.names().filter((name) => name.startsWith("failing/"))).toEqual(["failing/file"]);
});

test("a symbolic link keeps pointing where it did", async () => {
  const target = folder.write("links/target", "old");
  symlinkSync(target, folder.at("links/link"));
  await writeFileAtomically(folder.at("links/link"), NEW);
  expect(lstatSync(folder.at("links/link")).isSymbolicLink()).toBe(true);
  expect(readFileSync(target, "utf8")).toBe("new");
});

test("the bytes are on the disk before the file has its name", async () => {
  const handle = await open(folder.write("synced/any", ""));
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  let names: string[] = [];
  const sync = vi.spyOn(prototype, "sync").mockImplementation(async () => void (names = folder.names()));
  await writeFileAtomically(folder.at("synced/file"), NEW);
  sync.mockRestore();
  expect(names.filter((name) => name.startsWith("synced/.qedit-"))).toHaveLength(1);
  expect(names).not.toContain("synced/file");
});

test("a stop removes what is half written", async () => {
  mkdirSync(folder.at("stopped"));
  const names = () => folder.names().filter((name) => name.startsWith("stopped/"));
  const writing = writeFileAtomically(folder.at("stopped/file"), Buffer.alloc(64 * 2 ** 20)).catch(
    (error: unknown) => error,
  );
  await expect.poll(names, { interval: 1, timeout: 30_000 }).not.toEqual([]);
  removeTemporaryFiles();
  expect(names()).toEqual([]);
  await writing;
});

test("a pipe is not waited for, unless pipes are read", async () => {
  const path = folder.at("pipe");
  execFileSync("mkfifo", [path]);
  await expect(readBounded(path, 100)).rejects.toMatchObject({
    code: "QEDIT_E_IO",
    message: expect.stringMatching(/it is a pipe$/),
  });
  await expect(readTextFile(path, 100)).rejects.toThrow(/it is a pipe$/);
  const [read] = await Promise.all([readBounded(path, 100, { hasPipes: true }), writeFile(path, NEW)]);
  expect(read.equals(NEW)).toBe(true);
});

test("a socket is refused by what it is", async () => {
  const path = folder.at("socket");
  const server = createServer().listen(path);
  await once(server, "listening");
  await expect(readTextFile(path, 100)).rejects.toThrow(/it is a socket or a device$/);
  server.close();
});
