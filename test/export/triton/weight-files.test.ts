import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { namesBeside, placeWeights } from "../../../src/export/triton/weight-files.js";
import type { External } from "../../../src/graph/graph.js";
import type { ProgressEvent } from "../../../src/std/events.js";
import { temporaryFolder } from "../../support/folder.js";

const all = temporaryFolder();
const ownFolder = () => mkdtempSync(all.at("test-"));

const never = new AbortController().signal;
const quiet = { emit: () => {}, signal: never };

const external = (file: string): External => ({ dtype: "f32", shape: [1], file, offset: 0, length: 4 });

test("a model file is linked to, not copied, and through symbolic links to the real one", async () => {
  const folder = ownFolder();
  writeFileSync(join(folder, "blob"), "weights");
  symlinkSync(join(folder, "blob"), join(folder, "vae.safetensors"));
  const [one, two] = [join(folder, "one"), join(folder, "two")];
  const file = join(folder, "vae.safetensors");
  const placed = await placeWeights(
    new Map([
      [one, file],
      [two, file],
    ]),
    quiet,
  );
  expect(placed).toEqual({ linked: 7, copied: 0 });
  expect(statSync(one).ino).toBe(statSync(join(folder, "blob")).ino);
  expect(statSync(two).nlink).toBe(3);
});

test("files of the same name in two folders lie beside a graph under two names", () => {
  const externals = new Map(
    ["/a/w.safetensors", "/b/w.safetensors", "/a/w.safetensors"].map((file, index) => [`${index}`, external(file)]),
  );
  expect([...namesBeside({ externals })]).toEqual([
    ["/a/w.safetensors", "w.safetensors"],
    ["/b/w.safetensors", "2-w.safetensors"],
  ]);
});

test("a model file that is gone is refused", async () => {
  const folder = ownFolder();
  await expect(placeWeights(new Map([[join(folder, "a"), join(folder, "gone")]]), quiet)).rejects.toThrow(
    /^Cannot read .*gone: it does not exist$/,
  );
});

/** A file system in memory, another than that of temporary files. */
const OTHER = "/dev/shm";
const isElsewhere = existsSync(OTHER) && statSync(OTHER).dev !== statSync(all.path).dev;

describe.skipIf(!isElsewhere)("on another file system", () => {
  const other = isElsewhere ? mkdtempSync(join(OTHER, "qedit-")) : "";
  afterAll(() => other && rmSync(other, { recursive: true, force: true }));

  test("a model file is copied once, with its progress, and the copy is linked", async () => {
    const source = join(ownFolder(), "w.safetensors");
    writeFileSync(source, Buffer.alloc(9_000_000, 7));
    const events: ProgressEvent[] = [];
    mkdirSync(join(other, "x"));
    const [one, two] = [join(other, "one"), join(other, "x", "two")];
    const files = new Map([one, two].map((path) => [path, source]));
    expect(await placeWeights(files, { emit: (event) => events.push(event), signal: never })).toEqual({
      linked: 0,
      copied: 9_000_000,
    });
    expect(readFileSync(two).equals(readFileSync(source))).toBe(true);
    expect(statSync(one).ino).toBe(statSync(two).ino);
    expect(events.filter(({ kind }) => kind === "transfer").at(-1)).toMatchObject({
      bytes: 9_000_000,
      total: 9_000_000,
    });
  });

  test("a copy ends when the export is stopped", async () => {
    const source = join(ownFolder(), "w.safetensors");
    writeFileSync(source, Buffer.alloc(1000));
    const stopped = AbortSignal.abort(new Error("stopped"));
    await expect(
      placeWeights(new Map([[join(other, "stopped"), source]]), { emit: () => {}, signal: stopped }),
    ).rejects.toThrow("stopped");
  });
});
