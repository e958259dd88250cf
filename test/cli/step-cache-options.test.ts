// --step-cache on the command line: its flag alone and with a number, what says how much it reused, and that no edit with it is answered by one without.
import { readFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";
import type { Recipe } from "../../src/artifacts/recipe.js";
import { recipeIn } from "../../src/edit/recipe/recipe-of-file.js";
import { startServer } from "../support/server.js";
import { done, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const STEPS = 6;
const SMALL = ["--size", "48x32", "--steps", String(STEPS), "--cfg", "1"];
/** Of random weights, the first block adds something else at every step: by as much as it adds. */
const SHARE = 0.9;
const EDIT = [...models(), ...QUICK, ...SMALL, "-p", "make it red"];

const bytesOf = (name: string) => readFile(folder.at(`${name}.png`));
async function recipeOf(name: string): Promise<Recipe> {
  return recipeIn(await bytesOf(name), name);
}
async function run(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return done(["run", CAT, ...EDIT, ...args, "-o", `${name}.png`, "-f"], { ...here, env });
}

beforeAll(async () => {
  await run("without", []);
  await run("with", ["--step-cache", String(SHARE)]);
});

test("it gives another picture, and says how many evaluations were reused", async () => {
  expect(await bytesOf("with")).not.toEqual(await bytesOf("without"));
  const { settings, sizes } = await recipeOf("with");
  expect(settings["sample"]).toMatchObject({ stepCache: SHARE });
  const { whole, reused } = sizes["evaluations"] as { whole: number; reused: number };
  expect(whole + reused).toBe(STEPS);
  expect(reused).toBeGreaterThan(0);
  const { stdout } = await done(["inspect", "with.png"], here);
  expect(stdout).toContain(`step cache: share ${SHARE}, ${whole} evaluations whole, ${reused} reused`);
  const { stderr } = await run("again", ["--step-cache", String(SHARE), "--events", "stderr"]);
  const events = stderr
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
  expect(events.filter((event) => "evaluations" in event)).toMatchObject([
    { event: "note", evaluations: { whole, reused }, text: expect.stringContaining(`${reused} by its first block`) },
  ]);
  const verbose = await run("again", ["--step-cache", String(SHARE), "-v"]);
  expect(verbose.stderr).toMatch(new RegExp(`the first block changed by( \\d+\\.\\d+){${STEPS - 1}}\n`));
  const without = await recipeOf("without");
  expect(without.settings["sample"]).not.toHaveProperty("stepCache");
  expect(without.sizes).not.toHaveProperty("evaluations");
});

test("its flag alone takes the default, and no picture for its number", async () => {
  await done(["run", "--step-cache", CAT, ...EDIT, "-o", "alone.png"], here);
  await done(["run", CAT, "--step-cache", ...EDIT, "-o", "before-flags.png"], here);
  await done(["run", CAT, ...EDIT, "-o", "last.png", "--step-cache"], here);
  await done(["run", CAT, ...EDIT, "-o", "words.png", "-p", "--step-cache"], here);
  for (const name of ["alone", "before-flags", "last"])
    expect((await recipeOf(name)).settings["sample"]).toMatchObject({ stepCache: 0.05 });
  const { settings } = await recipeOf("words");
  expect(settings["encode_prompt"]).toMatchObject({ prompt: "--step-cache" });
  expect(settings["sample"]).not.toHaveProperty("stepCache");
});

test("a share of 0 gives the pixels without it", async () => {
  await run("zero", ["--step-cache", "0"]);
  const { default: sharp } = await import("sharp");
  const pixels = async (name: string) =>
    sharp(await bytesOf(name))
      .raw()
      .toBuffer();
  expect(await pixels("zero")).toEqual(await pixels("without"));
  expect((await recipeOf("zero")).sizes["evaluations"]).toEqual({ whole: STEPS, reused: 0 });
});

test("an edit with it is never taken from the cache of one without, nor the reverse", async () => {
  const env = { XDG_CACHE_HOME: folder.at("cache") };
  const taken = async (name: string, args: readonly string[]) =>
    (await run(name, [...args, "-v"], env)).stderr.includes("sample: taken from the cache");
  const cached = ["--step-cache", String(SHARE)];
  expect(await taken("first", [])).toBe(false);
  expect(await taken("second", cached)).toBe(false);
  expect(await taken("third", ["--step-cache", "0.1"])).toBe(false);
  expect(await taken("second-again", cached)).toBe(true);
  expect(await taken("first-again", [])).toBe(true);
  expect(await bytesOf("second-again")).toEqual(await bytesOf("with"));
  expect(await bytesOf("first-again")).toEqual(await bytesOf("without"));
});

test("a recipe makes the picture again, and two recipes show it", async () => {
  const rerun = ["rerun", "with.png", CAT, ...models(), "--threads", "1"];
  await done([...rerun, "-o", "rerun.png"], here);
  expect(await bytesOf("rerun")).toEqual(await bytesOf("with"));
  await done([...rerun, "-o", "off.png", "--set", "step-cache=off"], here);
  expect((await recipeOf("off")).settings["sample"]).not.toHaveProperty("stepCache");
  const { stdout } = await qedit(["diff", "with.png", "without.png"], here);
  expect(stdout).toMatch(new RegExp(`stepCache.*${SHARE}`));
});

test("edits of a batch know nothing of each other's steps", async () => {
  const job = { images: [CAT], prompt: "make it red", seed: 0 };
  writeJobs(folder.at("jobs.jsonl"), [
    { ...job, step_cache: SHARE, output: "a.png" },
    { ...job, step_cache: SHARE, seed: 7, output: "b.png" },
    { ...job, output: "c.png" },
    { ...job, step_cache: SHARE, output: "d.png" },
  ]);
  await done(["batch", "jobs.jsonl", ...models(), ...QUICK, ...SMALL, "--no-cache"], here);
  for (const [name, alone] of [
    ["a", "with"],
    ["c", "without"],
    ["d", "with"],
  ] as const)
    expect(await bytesOf(name)).toEqual(await bytesOf(alone));
});

test("a server makes the same edit, with the sample stage there too", async () => {
  const server = await startServer({ folder: folder.at("server"), args: ["--grpc", "127.0.0.1:0", "--metrics"] });
  try {
    const grpc = String(server.log.find((line) => "grpc" in line)!["grpc"]);
    const edit = ["run", CAT, "--model", "tiny", "--steps", "6", "--megapixels", "0.02", "-p", "make it red", "-f"];
    const cached = [...edit, "--step-cache", "0.002"];
    await done([...cached, ...QUICK, "-o", "here.png"], here);
    await done([...cached, "--remote", `sample=grpc://${grpc}`, ...QUICK, "-o", "stage.png"], here);
    await done([...cached, "--server", server.url, "-o", "there.png"], here);
    const { sizes } = await recipeOf("here");
    expect((sizes["evaluations"] as { reused: number }).reused).toBeGreaterThan(0);
    for (const name of ["stage", "there"]) expect(await bytesOf(name)).toEqual(await bytesOf("here"));
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/qedit_step_cache_evaluations_total\{computed="first block"\} [1-9]/);
  } finally {
    await server.stop("SIGKILL");
  }
});

test.each([
  [["--step-cache", "1"], /Cannot use "1" for --step-cache: a number from 0 to 0.99, on or off, is wanted/],
  [["--step-cache", "-0.1"], /Cannot use "-0.1" for --step-cache/],
  [["--step-cache=much"], /Cannot use "much" for --step-cache/],
  [["--step-cache", "--steps", "4"], /Cannot use --step-cache with 4 steps: each changes too much of the picture/],
  [["--step-cache", "--sigmas", "1,0.5"], /Cannot use --step-cache with 2 steps|Cannot use --steps beside --sigmas/],
])("%j is refused", async (extra, message) => {
  expectRefusal(await qedit(["run", CAT, ...EDIT, ...extra, "-o", "never.png"], here), { code: 2, message });
});

test("--fast 4 with it is refused by name", async () => {
  const args = ["run", CAT, "--model", "tiny", "--fast", "4", "--step-cache", "-p", "make it red", "-o", "never.png"];
  expectRefusal(await qedit(args, here), { code: 2, message: /Cannot use --step-cache with 4 steps/ });
});

test("the environment turns it on and off, and a flag is stronger", async () => {
  const shown = async (args: readonly string[], QEDIT_STEP_CACHE: string) => {
    const { stdout } = await done(["config", "--json", ...args], { ...here, env: { QEDIT_STEP_CACHE } });
    return JSON.parse(stdout).settings["step-cache"].value;
  };
  expect(await shown([], "on")).toBe(0.05);
  expect(await shown([], "0.1")).toBe(0.1);
  expect(await shown(["--step-cache", "0.2"], "0.1")).toBe(0.2);
  expect((await done(["config", "--explain"], { ...here, env: { QEDIT_STEP_CACHE: "0.1" } })).stdout).toMatch(
    /step-cache +0\.1 +environment/,
  );
  expectRefusal(await qedit(["config"], { ...here, env: { QEDIT_STEP_CACHE: "1" } }), {
    code: 2,
    message: /Cannot use "1" for --step-cache: .* \(set by QEDIT_STEP_CACHE\)/,
  });
  const env = { QEDIT_STEP_CACHE: String(SHARE) };
  await run("by-environment", [], env);
  expect(await bytesOf("by-environment")).toEqual(await bytesOf("with"));
  await run("off-by-flag", ["--step-cache", "off"], env);
  expect(await bytesOf("off-by-flag")).toEqual(await bytesOf("without"));
});

test("the plan says that it cannot say how much is saved, and counts what is kept", async () => {
  const planned = async (args: readonly string[]) => {
    const { stdout } = await done(["plan", CAT, ...EDIT, ...args, "--json"], here);
    return JSON.parse(stdout);
  };
  const [without, cached] = [await planned([]), await planned(["--step-cache", "0.1"])];
  expect(without.sampling).not.toHaveProperty("stepCache");
  expect(cached.sampling.stepCache).toBe(0.1);
  expect(cached.memory.ram.needed).toBeGreaterThan(0);
  const ramOf = (plan: typeof without) =>
    plan.stages.find(({ stage }: { stage: string }) => stage === "sample").memory.ram;
  expect(ramOf(cached)).toBeGreaterThan(ramOf(without));
  const { stdout } = await done(["plan", CAT, ...EDIT, "--step-cache", "0.1", "--vram", "1G"], here);
  expect(stdout).toContain(
    "6 passes of the transformer at most (step cache 0.1: how many it saves is not known before)",
  );
  expect(stdout).toMatch(/transformer: .*; the step cache keeps \d+ KiB/);
});
