// The cache of artifacts: keys, limits, damage, and writers that come at the same time.
import { mkdirSync, mkdtempSync, readdirSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import { cacheEntries, cacheKey, clearCache, openCache } from "../../src/artifacts/artifact-cache.js";
import { float32 } from "../../src/std/tensor.js";
import { leftover, NO_PROCESS } from "../support/leftovers.js";

const root = mkdtempSync(join(tmpdir(), "qedit-cache-"));
afterAll(() => rm(root, { recursive: true, force: true }));

const samples = (value: number, side = 4): Artifact => ({
  kind: "samples",
  tensors: { latent_tensor: float32([1, 3, side, side], new Float32Array(3 * side * side).fill(value)) },
  info: {
    settings: { sample: { seed: String(value), tiny: 1e-30, none: null } },
    sizes: {},
    inputs: { "image.1": "abc" },
    weights: { vae: "def" },
  },
});

const folder = (name: string) => join(root, name);
const key = (index: number) => cacheKey({ index });

describe("an entry", () => {
  test("comes back as it was, to the last bit and the last field", async () => {
    const cache = openCache(folder("same"), 1e9);
    expect(await cache.find(key(1), "samples")).toBeUndefined();
    expect(await cache.keep(key(1), samples(-0.1))).toBe(true);
    expect(await openCache(folder("same"), 0).find(key(1), "samples")).toEqual(samples(-0.1));
  });

  test.each([
    ["cut off", (path: string) => truncateSync(path, 300)],
    ["empty", (path: string) => truncateSync(path, 0)],
    ["something else", (path: string) => writeFileSync(path, "not a tensor file, but long enough to have a header")],
  ])("that is %s is not there, and is removed", async (name, damage) => {
    const cache = openCache(folder(name), 1e9);
    await cache.keep(key(1), samples(1));
    damage(join(folder(name), `${key(1)}.safetensors`));
    expect(await cache.find(key(1), "samples")).toBeUndefined();
    expect(readdirSync(folder(name))).toEqual([]);
  });

  test("of another kind is not taken for the wanted one", async () => {
    const cache = openCache(folder("kind"), 1e9);
    await cache.keep(key(1), samples(1));
    expect(await cache.find(key(1), "latents")).toBeUndefined();
  });
});

describe("a limit", () => {
  test("makes the longest unused entries go, and never those of this process", async () => {
    for (const index of [1, 2, 3]) await openCache(folder("limit"), 1e9).keep(key(index), samples(index));
    const entries = await cacheEntries(folder("limit"));
    const size = entries[0]!.bytes;
    entries.forEach(({ path, key: each }) =>
      utimesSync(path, each === key(2) ? 5000 : 1000, each === key(2) ? 5000 : 1000),
    );
    const cache = openCache(folder("limit"), 3.5 * size);
    expect(await cache.find(key(1), "samples")).toBeDefined();
    await cache.keep(key(4), samples(4));
    expect((await cacheEntries(folder("limit"))).map((each) => each.key).sort()).toEqual(
      [key(1), key(2), key(4)].sort(),
    );
  });

  test("that an entry is larger than keeps it out", async () => {
    const cache = openCache(folder("small"), 100);
    expect(await cache.keep(key(1), samples(1))).toBe(false);
    expect(await cacheEntries(folder("small"))).toEqual([]);
  });
});

test("what a killed writer left is removed by the next one, and by clearing", async () => {
  mkdirSync(folder("torn"));
  const leave = () => writeFileSync(join(folder("torn"), leftover(NO_PROCESS)), "half");
  leave();
  await openCache(folder("torn"), 1e9).keep(key(1), samples(1));
  expect(readdirSync(folder("torn"))).toEqual([`${key(1)}.safetensors`]);
  leave();
  expect(await clearCache(folder("torn"))).toHaveLength(1);
  expect(readdirSync(folder("torn"))).toEqual([]);
});

test("only the user can read an entry", async () => {
  await openCache(folder("private"), 1e9).keep(key(1), samples(1));
  expect(statSync(join(folder("private"), `${key(1)}.safetensors`)).mode & 0o777).toBe(0o600);
  expect(statSync(folder("private")).mode & 0o777).toBe(0o700);
});

test("writers and evictions do not disturb each other", async () => {
  const caches = [1, 2, 3].map(() => openCache(folder("busy"), 4000));
  await Promise.all(
    caches.flatMap((cache, writer) =>
      [1, 2, 3, 4, 5, 6].map(async (index) => {
        await cache.keep(key(index), samples(index));
        const found = await cache.find(key(index), "samples");
        if (found) expect(found, `writer ${writer}`).toEqual(samples(index));
      }),
    ),
  );
});
