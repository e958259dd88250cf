// The rebuilt headers of the published files, and the reader on files of their full size.

import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PublishedName } from "../../fixtures/headers/published.js";
import { fileBytes, PUBLISHED, publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";

const NAMES = Object.keys(PUBLISHED) as PublishedName[];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "qedit-headers-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe.each(NAMES)("%s", (name) => {
  const { bytes, tensors } = PUBLISHED[name];

  test("the list has as many tensors as the published file, each once", () => {
    const names = publishedTensors(name).map((entry) => entry.name);
    expect(names).toHaveLength(tensors);
    expect(new Set(names).size).toBe(tensors);
  });

  test("the list makes a file of the published size to the byte", () => {
    expect(fileBytes(publishedTensors(name))).toBe(bytes);
  });

  test("the reader finds every tensor in a sparse file of full size", async () => {
    const path = join(folder, `${name}.safetensors`);
    await sparseCheckpoint(path, publishedTensors(name));
    expect((await stat(path)).size).toBe(bytes);
    const checkpoint = await readSafetensors(path);
    expect(checkpoint.tensors.size).toBe(tensors);
    const ends = [...checkpoint.tensors.values()].map((stored) => stored.offset + stored.length);
    expect(Math.max(...ends)).toBe(bytes);
  });
});
