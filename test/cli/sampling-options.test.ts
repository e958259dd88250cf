// Options of sampling as ComfyUI's nodes have them: CFGNorm left out, lcm's noise, where references stand.
import { readFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";
import { recipeIn } from "../../src/edit/recipe/recipe-of-file.js";
import { done, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, models, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const EDIT = [CAT, ROCKET, ...models(), ...QUICK, "--size", "48x32", "--steps", "3", "-p", "make both red"];
const GUIDED = [...EDIT, "--cfg", "2.5"];
const LCM = [...EDIT, "--cfg", "1", "--sampler", "lcm"];

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  guided: GUIDED,
  "no-norm": [...GUIDED, "--cfg-norm", "none"],
  offset: [...GUIDED, "--reference-method", "offset"],
  uxo: [...GUIDED, "--reference-method", "uxo"],
  index: [...GUIDED, "--reference-method", "index"],
  zero: [...GUIDED, "--reference-method", "index_timestep_zero"],
  lcm: LCM,
  "lcm-1": [...LCM, "--lcm-noise", "1"],
  "lcm-less": [...LCM, "--lcm-noise", "0.5", "--lcm-noise-end", "0.25", "--lcm-noise-clip", "2"],
};

const bytesOf = (name: string) => readFile(folder.at(`${name}.png`));
async function sampleOf(name: string) {
  return recipeIn(await bytesOf(name), name).settings["sample"] as Record<string, unknown>;
}
async function pixels(name: string): Promise<Buffer> {
  const { default: sharp } = await import("sharp");
  return sharp(folder.at(`${name}.png`))
    .raw()
    .toBuffer();
}

beforeAll(async () => {
  for (const [name, args] of Object.entries(VARIANTS)) await done(["run", ...args, "-o", `${name}.png`], here);
}, 60_000);

test("each option changes the picture, and what is the default does not", async () => {
  const same = async (a: string, b: string) => (await pixels(a)).equals(await pixels(b));
  expect(await same("guided", "no-norm")).toBe(false);
  expect(await same("guided", "offset")).toBe(false);
  expect(await same("guided", "zero")).toBe(false);
  expect(await same("offset", "uxo")).toBe(true);
  expect(await same("guided", "index")).toBe(true);
  expect(await same("lcm", "lcm-1")).toBe(true);
  expect(await same("lcm", "lcm-less")).toBe(false);
});

test("the recipe has them only where they were given, and makes the picture again", async () => {
  expect(await sampleOf("no-norm")).toMatchObject({ cfgNorm: "none" });
  expect(await sampleOf("lcm-less")).toMatchObject({ lcmNoise: 0.5, lcmNoiseEnd: 0.25, lcmNoiseClip: 2 });
  expect(await sampleOf("zero")).toMatchObject({ referenceMethod: "index_timestep_zero" });
  for (const name of ["lcmNoise", "lcmNoiseEnd", "lcmNoiseClip", "referenceMethod"])
    expect(await sampleOf("guided")).not.toHaveProperty(name);
  for (const name of ["no-norm", "lcm-less", "zero"]) {
    const again = ["rerun", `${name}.png`, CAT, ROCKET, ...models(), "--threads", "1", "-o", `${name}-again.png`];
    await done(again, here);
    expect(await bytesOf(`${name}-again`)).toEqual(await bytesOf(name));
  }
  const { stdout } = await done(["inspect", "lcm-less.png", "zero.png"], here);
  expect(stdout).toContain("noise of lcm: factor 0.5, at the end 0.25, clipped at 2");
  expect(stdout).toContain("references by: index_timestep_zero");
});

test.each([
  [["--lcm-noise", "0.5"], /Cannot use --lcm-noise with the sampler euler: it has no effect/],
  [["--lcm-noise-clip", "2", "--sampler", "heun"], /Cannot use --lcm-noise-clip with the sampler heun/],
  [["--cfg-norm", "none"], /Cannot use --cfg-norm at cfg 1: it has no effect/],
])("%j without an effect is refused", async (extra, message) => {
  expectRefusal(await qedit(["run", CAT, ...TINY, "-p", "x", ...extra], here), { code: 2, message });
});

test("--resolution-steps makes sides multiples, with --match comfyui alone, and is made again", async () => {
  const steps = [
    "run",
    CAT,
    ...models(),
    ...QUICK,
    "--megapixels",
    "0.01",
    "--steps",
    "1",
    "--cfg",
    "1",
    "-p",
    "make it red",
  ];
  const given = [...steps, "--resolution-steps", "32", "-o", "steps.png"];
  await done([...given, "--match", "comfyui"], here);
  const again = ["rerun", "steps.png", CAT, ...models(), "--threads", "1", "-o", "steps-again.png"];
  await done(again, here);
  expect(await bytesOf("steps-again")).toEqual(await bytesOf("steps"));
  const { stdout } = await done(["inspect", "steps.png"], here);
  expect(stdout).toMatch(/size: 128x96/);
  for (const match of [[], ["--match", "comfyui-kontext"]])
    expectRefusal(await qedit([...given, "--force", ...match], here), {
      code: 2,
      message: /Cannot use --resolution-steps in mode/,
    });
  await done([...again.slice(0, -1), "plain.png", "--set", "match="], here);
});

test("a job of a batch takes them", async () => {
  const job = { images: [CAT], prompt: "make it red", cfg: 2, cfg_norm: "none", reference_method: "offset" };
  writeJobs(folder.at("jobs.jsonl"), [{ ...job, output: "job.png" }]);
  await done(["batch", "jobs.jsonl", ...TINY.slice(0, -2)], here);
  expect(await sampleOf("job")).toMatchObject({ cfgNorm: "none", referenceMethod: "offset" });
});

test("noise levels stand in place of steps, scheduler and shift", async () => {
  const pictureOf = async (name: string, args: readonly string[]) => {
    await done(
      ["run", ...EDIT.filter((each) => each !== "--steps" && each !== "3"), "--cfg", "1", ...args, "-o", name],
      here,
    );
    return pixels(name.replace(".png", ""));
  };
  const { sigmas } = await sampleOf("lcm");
  const scheduled = await pictureOf("scheduled.png", ["--steps", "3"]);
  expect(
    (await pictureOf("levels.png", ["--sigmas", (sigmas as number[]).slice(0, -1).join(",")])).equals(scheduled),
  ).toBe(true);
  expect((await pictureOf("others.png", ["--sigmas", "1,0.5"])).equals(scheduled)).toBe(false);
  const record = await sampleOf("others");
  expect(record).toMatchObject({ sigmas: [1, 0.5, 0], steps: 2 });
  for (const name of ["scheduler", "shift", "denoise"]) expect(record).not.toHaveProperty(name);
  await done(["rerun", "others.png", CAT, ROCKET, ...models(), "--threads", "1", "-o", "others-again.png"], here);
  expect((await pixels("others-again")).equals(await pixels("others"))).toBe(true);
  const inspected = await qedit(["inspect", "others.png"], here);
  expect(inspected.stdout).toContain("2 steps, cfg 1, euler, noise levels 1,0.5,0");
});

test.each([
  ["1,0.5,0.5", 'Cannot use "1,0.5,0.5" for --sigmas'],
  ["1.5,0.5", 'Cannot use "1.5,0.5" for --sigmas'],
  ["0", 'Cannot use "0" for --sigmas'],
  ["1,,0", 'Cannot use "1,,0" for --sigmas'],
  ["red", 'Cannot use "red" for --sigmas'],
])("noise levels %s are refused", async (levels, message) => {
  const args = EDIT.filter((each) => each !== "--steps" && each !== "3");
  await expectRefusal(await qedit(["run", ...args, "--sigmas", levels, "-o", "no.png"], here), {
    code: 2,
    message,
  });
});

test("noise levels beside steps are refused", async () => {
  await expectRefusal(await qedit(["run", ...EDIT, "--sigmas", "1,0.5", "-o", "no.png"], here), {
    code: 2,
    message: "Cannot use --steps beside --sigmas: it has no effect",
  });
});
