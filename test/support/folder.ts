// A folder of a test file's own, gone when its tests are done.
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";

/** A folder, paths in it, and files written to it. */
export interface TemporaryFolder {
  readonly path: string;
  readonly at: (name: string) => string;
  /** Writes a file, making folders as needed; gives its path. */
  readonly write: (name: string, bytes: string | Uint8Array) => string;
  /** Everything in it, by relative path. */
  readonly names: () => string[];
}

/** Makes a folder that goes when the tests of this file are done. */
export function temporaryFolder(): TemporaryFolder {
  const path = mkdtempSync(join(tmpdir(), "qedit-test-"));
  afterAll(() => rm(path, { recursive: true, force: true }));
  return {
    path,
    at: (name) => join(path, name),
    write(name, bytes) {
      const file = join(path, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, bytes);
      return file;
    },
    names: () => readdirSync(path, { recursive: true, encoding: "utf8" }).sort(),
  };
}
