// Results that are kept for later runs: the same bits as computed ones, shared between processes, repaired when damaged, and bounded.
import { existsSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { done, jsonLines, loads, ONCE, TINY } from "./jobs.js";
import { CAT, models, QUICK, spawned, workFolder } from "./qedit.js";

const folder = workFolder();

/** Several processes, on a busy machine: milliseconds. */
const SLOW = 120_000;

const cacheAt = (name: string) => ({ cwd: folder.path, env: { XDG_CACHE_HOME: folder.at(name) } });
const entries = (name: string) =>
  readdirSync(folder.at(`${name}/qedit/artifacts`)).map((each) => folder.at(`${name}/qedit/artifacts/${each}`));
const RUN = ["run", CAT, "-p", "make it red", ...TINY];
const bytes = (name: string) => readFileSync(folder.at(name));

describe("a second run", () => {
  const here = cacheAt("cache");
  beforeAll(async () => {
    await done([...RUN, "-o", "computed.png", "--keep", "computed", "--events", "computed.ndjson"], here);
  }, SLOW);

  test("of the same edit only decodes, says so, and gives the same bits with the same records", async () => {
    const { stderr } = await done([...RUN, "-o", "cached.png", "--keep", "cached", "--events", "cached.ndjson"], here);
    expect(loads(folder.at("computed.ndjson"))).toEqual(ONCE);
    expect(loads(folder.at("cached.ndjson"))).toEqual({ "vae-decoder": 1 });
    expect(stderr.match(/^(encode-image|encode-prompt|sample): taken from the cache$/gm)).toHaveLength(3);
    const hits = jsonLines<{ event: string; action: string; stage: string }>(bytes("cached.ndjson").toString()).filter(
      ({ event, action }) => event === "cache" && action === "hit",
    );
    expect(hits.map(({ stage }) => stage)).toEqual(["encode-image", "encode-prompt", "sample"]);
    expect(bytes("cached.png").equals(bytes("computed.png"))).toBe(true);
    for (const name of readdirSync(folder.at("computed")))
      expect(bytes(`cached/${name}`).equals(bytes(`computed/${name}`)), name).toBe(true);
  });

  test("with another seed, other steps and another LoRA strength skips the encoders", async () => {
    await done([...RUN, "--seed", "3", "--sampler", "heun", "-o", "seed.png", "--events", "seed.ndjson"], here);
    expect(loads(folder.at("seed.ndjson"))).toEqual({ transformer: 1, "vae-decoder": 1 });
  });

  test.each([
    [
      ["--size", "64x32"],
      ["vae-encoder", "transformer", "vae-decoder"],
    ],
    [
      ["-p", "make it blue"],
      ["vision-tower", "language-model", "transformer", "vae-decoder"],
    ],
    [["--no-cache"], Object.keys(ONCE)],
    [["--threads", "2"], Object.keys(ONCE)],
  ])("with %j computes what that changes", async (options, networks) => {
    const log = `${options.join("")}.ndjson`.replaceAll(" ", "");
    await done([...RUN, ...options, "-o", `${log}.png`, "--events", log], here);
    expect(Object.keys(loads(folder.at(log)))).toEqual(networks);
  });

  test("by the stages' own commands uses what run kept, and the other way round", async () => {
    await done(
      [
        "encode-image",
        CAT,
        "--size",
        "48x32",
        ...models({}, ["--vae"]),
        ...QUICK,
        "--events",
        "stage.ndjson",
        "-o",
        "stage.safetensors",
      ],
      here,
    );
    expect(loads(folder.at("stage.ndjson"))).toEqual({});
    expect(bytes("stage.safetensors").equals(bytes("computed/latents.safetensors"))).toBe(true);
  });

  test("does not keep samples of a seed that was drawn", async () => {
    const before = entries("cache").length;
    await done([...RUN, "--seed", "random", "-o", "drawn.png"], here);
    expect(entries("cache")).toHaveLength(before);
  });
});

test("a damaged entry is computed again and replaced", async () => {
  const here = cacheAt("damaged");
  await done([...RUN, "-o", "before.png"], here);
  for (const path of entries("damaged")) {
    const file = readFileSync(path);
    // One bit of a number, which leaves the file in form.
    file[file.length - 2]! ^= 1;
    writeFileSync(path, file);
  }
  await done([...RUN, "-o", "after.png", "--events", "damaged.ndjson"], here);
  expect(loads(folder.at("damaged.ndjson"))).toEqual(ONCE);
  expect(bytes("after.png").equals(bytes("before.png"))).toBe(true);
  await done([...RUN, "-o", "whole.png", "--events", "whole.ndjson"], here);
  expect(loads(folder.at("whole.ndjson"))).toEqual({ "vae-decoder": 1 });
});

test("the limit holds, and what was used last stays", async () => {
  const here = cacheAt("limited");
  await done([...RUN, "-o", "first.png"], here);
  const old = entries("limited");
  old.forEach((path, index) => utimesSync(path, 1000 + index, 1000 + index));
  const total = old.reduce((sum, path) => sum + statSync(path).size, 0);
  await done([...RUN, "-p", "make it blue", "-o", "second.png"], {
    ...here,
    env: { ...here.env, QEDIT_CACHE_LIMIT: String(total) },
  });
  const now = entries("limited");
  expect(now.reduce((sum, path) => sum + statSync(path).size, 0)).toBeLessThanOrEqual(total);
  await done([...RUN, "-p", "make it blue", "-o", "third.png", "--events", "third.ndjson"], here);
  expect(loads(folder.at("third.ndjson"))).toEqual({ "vae-decoder": 1 });
});

test(
  "several processes share one cache",
  async () => {
    const here = cacheAt("shared");
    const ended = await Promise.all(
      [1, 2, 3, 4].map((index) =>
        spawned([...RUN, "--seeds", "1..3", "-o", `shared-${index}.png`, "--cache-limit", "60K"], here),
      ),
    );
    expect(ended.map(({ code, stderr }) => (code === 0 ? "" : stderr))).toEqual(["", "", "", ""]);
    for (const index of [2, 3, 4])
      expect(bytes(`shared-${index}-seed3.png`).equals(bytes("shared-1-seed3.png"))).toBe(true);
    expect(entries("shared").filter((path) => !path.endsWith(".safetensors"))).toEqual([]);
  },
  SLOW,
);

test("a cache that cannot be written to is warned of once, and the picture is made", async () => {
  writeFileSync(folder.at("closed"), "");
  const { stderr } = await done([...RUN, "-o", "closed.png"], cacheAt("closed"));
  expect(stderr.match(/^warning: .*$/gm)).toEqual([
    `warning: results are not kept for later runs in ${folder.at("closed/qedit/artifacts")}: a part of its path is a file, not a folder`,
  ]);
});

describe("qedit cache", () => {
  const here = cacheAt("managed");
  beforeAll(async () => {
    await done([...RUN, "-o", "managed.png"], here);
    writeFileSync(folder.at("managed/qedit/artifacts/mine.txt"), "not qedit's");
  }, SLOW);

  test("path and list say what lies where", async () => {
    expect((await done(["cache", "path"], here)).stdout).toBe(`${folder.at("managed/qedit/artifacts")}\n`);
    const { bytes: total, entries: listed } = JSON.parse((await done(["cache", "list", "--json"], here)).stdout) as {
      bytes: number;
      entries: { kind: string; bytes: number }[];
    };
    expect(listed.map(({ kind }) => kind).sort()).toEqual(["cond", "latents", "samples"]);
    expect(listed.reduce((sum, each) => sum + each.bytes, 0)).toBe(total);
    expect((await done(["cache", "list"], here)).stdout).toMatch(/\n3 results, .* MB, in /);
  });

  test("clear removes the entries and nothing else", async () => {
    expect(JSON.parse((await done(["cache", "clear", "--json"], here)).stdout)).toMatchObject({ removed: 3 });
    expect(entries("managed").map((path) => path.split("/").at(-1))).toEqual(["mine.txt"]);
    expect((await done(["cache", "list"], here)).stdout).toMatch(/^0 results, 0\.00 MB/);
  });

  test("of a cache that does not exist is empty, and makes none", async () => {
    expect((await done(["cache", "clear"], cacheAt("none"))).stdout).toMatch(/^Removed 0 results/);
    expect(existsSync(folder.at("none"))).toBe(false);
  });
});
