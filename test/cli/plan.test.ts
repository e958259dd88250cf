// `qedit plan` and `run --dry-run`: what they print, what they refuse, and that they compute nothing.
import { readFile, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import type { EditPlan } from "../../src/edit/plan/edit-plan.js";
import {
  CAT,
  expectRefusal,
  LORA,
  models,
  QUICK,
  qedit,
  ROCKET,
  type Surroundings,
  spawned,
  workFolder,
} from "./qedit.js";

const folder = workFolder();
const WINTER = ["-p", "make it winter"];
const SMALL = ["--megapixels", "0.05", "--steps", "2"];
const HOME = { QEDIT_HOME: folder.at("home") };

const plain = (args: readonly string[], options: Partial<Surroundings> = {}) =>
  qedit(args, { cwd: folder.path, env: HOME, ...options });
async function planned(args: readonly string[]): Promise<EditPlan> {
  const ended = await plain(["plan", ...args, "--json"]);
  expect(ended.code, ended.stderr).toBe(0);
  return JSON.parse(ended.stdout) as EditPlan;
}

/** Tells at its end whether ONNX Runtime was mapped, and the largest resident set in kB. */
const WITNESS = `import { readFileSync } from "node:fs"; process.on("exit", () => process.stderr.write("\\nruntime " + readFileSync("/proc/self/maps", "utf8").includes("onnxruntime") + " rss " + process.resourceUsage().maxRSS + "\\n"));`;
const NODE = ["--import", `data:text/javascript,${encodeURIComponent(WITNESS)}`];
const watched = (args: readonly string[]) => spawned(args, { cwd: folder.path, env: HOME, node: NODE });

/** Real memory may be above or below the plan by this share: what the allocator leaves unused, and what Node.js collects late. */
const MEMORY_TOLERANCE = 0.3;

describe("what comes after decoding", () => {
  const size = { width: 3000, height: 2000 };
  const picture = 3 * size.width * size.height;
  const SEPIA = ["-p", "make it sepia", "--model", "tiny", ...SMALL, "--device", "cpu"];
  const decoding = async (...args: string[]) =>
    (await planned(["large.jpg", ...SEPIA, ...args])).stages.find(({ stage }) => stage === "decode")!.memory.ram;

  test("is counted where it makes pictures of picture 1's size", async () => {
    await sharp({ create: { ...size, channels: 3, background: "grey" } })
      .jpeg()
      .toFile(folder.at("large.jpg"));
    await sharp({ create: { width: 300, height: 200, channels: 3, background: "white" } }).toFile(folder.at("m.png"));
    const plain = await decoding();
    const kept = await decoding("--keep-size");
    expect(kept).toBeGreaterThan(plain);
    // Straightened and pasted in place of picture 1's rim, and masks.
    const [detected, masked, region] = [
      await decoding("--keep-size", "--paste-back"),
      await decoding("--keep-size", "--paste-back", "--mask", "m.png"),
      await decoding("--crop-mask", "--mask", "m.png"),
    ];
    expect((detected - kept) / picture).toBeCloseTo(1 + 5 / 3, 1);
    expect((masked - kept) / picture).toBeCloseTo(1 + 2 / 3, 1);
    expect((region - kept) / picture).toBeCloseTo(1 + 2 / 3, 1);
    expect((await decoding("--paste-back")) - plain).toBeLessThan(picture);
  });

  test("is counted beside the last network that runs here, where other machines decode", async () => {
    const elsewhere = [
      "--remote",
      "encode-image=grpc://127.0.0.1:1,sample=grpc://127.0.0.1:1,decode=grpc://127.0.0.1:1",
    ];
    const stages = async (...args: string[]) => (await planned(["large.jpg", ...SEPIA, ...elsewhere, ...args])).stages;
    const [plain, pasted] = [await stages(), await stages("--keep-size", "--paste-back")];
    expect(pasted.map(({ stage }) => stage)).toEqual(["encode-prompt"]);
    expect(pasted[0]!.memory.ram - plain[0]!.memory.ram).toBeGreaterThan(3 * picture);
  });

  test.runIf(process.platform === "linux").each([["--keep-size"], ["--keep-size", "--paste-back"]])(
    "takes what is planned for it: %s %s",
    async (...flags) => {
      await sharp(CAT)
        .resize({ ...size, fit: "fill" })
        .jpeg()
        .toFile(folder.at("large.jpg"));
      const wanted = await decoding(...flags.filter(Boolean));
      const args = ["run", "large.jpg", ...SEPIA, ...flags.filter(Boolean), "--force", "-o", "large.png"];
      const ended = await spawned(args, { cwd: folder.path, env: { QEDIT_HOME: folder.at("own-home") }, node: NODE });
      const taken = Number(/ rss (\d+)/.exec(ended.stderr)![1]) * 1024;
      expect(Math.abs(taken / wanted - 1)).toBeLessThan(MEMORY_TOLERANCE);
    },
  );
});

test.each([
  ["qwen-image-2.1", 40, "I8 rows of ConvRot", 7_256_783_064],
  ["qwen-image-2.1-bf16", 40, "bfloat16", 14_230_280_616],
  ["qwen-image-2.1-turbo", 8, "I8 rows of ConvRot", 7_256_787_829],
])("%s is planned by its own files before they are there: %i steps, %s", async (model, steps, _, bytes) => {
  const plan = await planned([CAT, ...WINTER, "--model", model, "--megapixels", "0.25", "--device", "cpu"]);
  expect(plan.files.find(({ role }) => role === "transformer")).toMatchObject({ bytes });
  const sample = plan.stages.find(({ stage }) => stage === "sample")!;
  expect(sample.networks.map(({ part, runs }) => [part, runs.map(({ times }) => times)])).toEqual([
    ["prefix", [1]],
    [undefined, [steps]],
  ]);
  // All but the scales of the weights, and the little that only one of the two parts reads.
  const { weightBytes, parameters } = sample.networks[1]!;
  expect(Math.abs(weightBytes / bytes - 1)).toBeLessThan(0.05);
  expect(Math.abs(parameters / 7.1e9 - 1)).toBeLessThan(0.05);
  expect(plan.sizes.target.size.width % 32).toBe(0);
  // Both parts read the same weights.
  expect(Math.abs(sample.readBytes / bytes - 1)).toBeLessThan(0.05);
  const { latent } = plan.sizes.target;
  expect(plan.totals.tensorBytes).toBe(4 * (3 * 64 * latent.width * latent.height + 4096 * plan.tokens.prompt.seen));
});

describe("a plan", () => {
  test("has the sizes, tokens and evaluations that the edit then has, and times it the second time", async () => {
    const args = [CAT, ROCKET, ...WINTER, ...SMALL, ...models(), ...QUICK];
    const before = await planned(args);
    expect(before.totals.seconds).toBeUndefined();
    const ran = await plain(["run", ...args, "--json", "-o", "out.png"]);
    expect(ran.code, ran.stderr).toBe(0);
    // biome-ignore lint/suspicious/noExplicitAny: whatever was printed
    const { info } = JSON.parse(ran.stdout) as { info: { sizes: Record<string, any> } };
    const { why: _, ...target } = before.sizes.target;
    expect(info.sizes["target"]).toMatchObject(target);
    expect(before.sizes.pictures.map(({ source, reference }) => ({ source, size: reference.size }))).toEqual(
      info.sizes["images"].map(({ source, reference }: { source: object; reference: { size: object } }) => ({
        source,
        size: reference.size,
      })),
    );
    expect(before.sizes.pictures.map(({ vision }) => [1, vision.grid.height, vision.grid.width])).toEqual(
      info.sizes["vision_grids"],
    );
    expect(before.tokens.prompt.seen).toBe(info.sizes["prompt_tokens"]);
    expect(before.sampling.evaluations).toEqual({ positive: 2, negative: 2 });

    const after = await planned(args);
    expect(after.totals.seconds).toBeGreaterThan(0);
    const times = (await readFile(folder.at("home/state/timings.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { network: string; flops: number; weightBytes: number });
    const networks = after.stages.flatMap((stage) => stage.networks);
    expect(times.map(({ network, flops, weightBytes }) => [network, flops, weightBytes])).toEqual(
      networks.map(({ network, flops, weightBytes }) => [network, flops, weightBytes]),
    );
  });

  test("for people says why, and what is needed", async () => {
    const ended = await plain(["plan", CAT, ...WINTER, ...SMALL, ...models(), ...QUICK]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toBe("");
    for (const part of [
      "1 picture → 288x192: 2 steps of euler",
      "Sizes",
      "451x300",
      "as the result, so that nothing zooms or drifts",
      "Tokens",
      "prompt 266 = template 76 + vision 187 + prompt 3; the transformer sees 202",
      "Stages",
      "transformer ×4",
      "Memory",
      "Time",
    ]) {
      expect(ended.stdout).toContain(part);
    }
    expect(ended.stdout.split("\n").every((line) => line === line.trimEnd())).toBe(true);
  });

  test.runIf(process.platform === "linux")("loads no ONNX Runtime and writes nothing", async () => {
    const before = folder.names();
    const ended = await watched(["plan", CAT, ...WINTER, ...models(), ...QUICK]);
    expect(ended.stderr).toContain("runtime false");
    expect(folder.names()).toEqual(before);
  });

  test.runIf(process.platform === "linux")("tells the memory that the edit takes", async () => {
    const args = [CAT, ...WINTER, "--megapixels", "0.3", "--steps", "1", "--cfg", "1", ...models(), ...QUICK];
    const { memory } = await planned(args);
    const ran = await watched(["run", ...args, "-o", "memory.png"]);
    const taken = Number(/rss (\d+)/.exec(ran.stderr)![1]) * 1024;
    expect(Math.abs(memory.ram.needed / taken - 1)).toBeLessThan(MEMORY_TOLERANCE);
    expect(memory.ram.total).toBeLessThanOrEqual(totalmem());
  });

  test("counts every sampler's own evaluations, and several seeds", async () => {
    const args = [CAT, ...WINTER, "--megapixels", "0.05", ...models(), ...QUICK, "--steps", "5"];
    // Heun asks twice a step, but for the last.
    expect((await planned([...args, "--sampler", "heun", "--cfg", "1"])).sampling.evaluations).toEqual({
      positive: 9,
      negative: 0,
    });
    const several = await planned([...args, "--seeds", "1,5,9..12"]);
    expect(several.results).toBe(6);
    const networks = several.stages.flatMap((stage) => stage.networks);
    expect(networks.map(({ runs }) => runs.reduce((sum, { times }) => sum + times, 0))).toEqual([1, 1, 2, 60, 6]);
  });

  test("counts a LoRA's work and bytes", async () => {
    const args = [CAT, ...WINTER, ...SMALL, ...models(), ...QUICK];
    const [without, beside] = [await planned(args), await planned([...args, "--lora", `${LORA}:0.5`])];
    const flopsOf = ({ stages }: EditPlan) => stages.find(({ stage }) => stage === "sample")!.flops;
    expect(flopsOf(beside)).toBeGreaterThan(flopsOf(without) * 1.01);
    expect(beside.files.at(-1)).toMatchObject({ role: "lora", path: LORA });
  });

  test("reads a picture and takes a prompt from stdin", async () => {
    const picture = await plain(["plan", "-", ...WINTER, ...SMALL, ...models(), ...QUICK, "--json"], {
      input: await readFile(CAT),
    });
    expect((JSON.parse(picture.stdout) as EditPlan).sizes.pictures[0]).toMatchObject({
      name: "stdin",
      source: { width: 451, height: 300 },
    });
    const prompt = await plain(["plan", CAT, "-p", "-", ...SMALL, ...models(), ...QUICK, "--json"], {
      input: Buffer.from("make it winter\n"),
    });
    expect((JSON.parse(prompt.stdout) as EditPlan).tokens).toEqual(
      (await planned([CAT, ...WINTER, ...SMALL, ...models(), ...QUICK])).tokens,
    );
  });
});

describe("without the model's files", () => {
  test("a plan counts what is published, and says what to do", async () => {
    const plan = await planned([CAT, ...WINTER, "--fast", "4", "--device", "cpu"]);
    expect(plan.files.map(({ path }) => path)).toEqual([undefined, undefined, undefined, undefined]);
    expect(plan.totals.missingFiles).toBe(4);
    expect(plan.totals.missingBytes).toBe(253806246 + 9384670680 + 20430698424 + 849608296);
    // One reference of a megapixel: 167 TFLOP a step, the VAE 2.9 and 4.7.
    const tera = Object.fromEntries(plan.stages.map(({ stage, flops }) => [stage, flops / 1e12]));
    expect(tera["sample"]! / 4).toBeCloseTo(167, -1);
    expect(tera["encode-image"]).toBeCloseTo(2.9, 0);
    expect(tera["decode"]).toBeCloseTo(4.7, 0);
    expect(plan.files[2]!.remedy).toContain("qedit models pull");
    const shown = await plain(["plan", CAT, ...WINTER, "--device", "cpu"]);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain("qwen_image_vae.safetensors: not on disk");
  });

  test("a dry run prints the same plan and ends as the run would, with 3", async () => {
    const args = [CAT, ...WINTER, "--device", "cpu", "--json"];
    const [dry, plan] = await Promise.all([plain(["run", "-n", ...args]), plain(["plan", ...args])]);
    expect([dry.code, plan.code]).toEqual([3, 0]);
    const stable = (text: string) => ({ ...(JSON.parse(text) as EditPlan), memory: undefined });
    expect(stable(dry.stdout)).toEqual(stable(plan.stdout));
  });

  test("files that are there are read, whatever is missing beside them", async () => {
    const plan = await planned([CAT, ...WINTER, ...SMALL, ...models({}, ["--vae"]), ...QUICK]);
    expect(plan.files.map(({ path }) => path !== undefined)).toEqual([true, false, false]);
    expect(plan.stages[0]!.readBytes).toBeLessThan(1e6);
  });
});

describe("what does not fit", () => {
  test("on a GPU names the largest size that does, which then fits", async () => {
    const args = [CAT, ROCKET, ...WINTER, "--megapixels", "6", "--vram", "4"];
    const plan = await planned(args);
    expect(plan.device.name).toBe("cuda:0");
    expect(plan.memory.gpu).toMatchObject({ fit: "no", total: 4 * 1024 ** 3 });
    const [, megapixels] = plan.advice
      .map(({ change }) => /^--megapixels (.+)$/.exec(change ?? ""))
      .find((match) => match)!;
    const smaller = await planned([...args.slice(0, 4), "--megapixels", megapixels!, "--vram", "4G"]);
    expect(smaller.memory).toMatchObject({ gpu: { fit: "fits" }, plan: { fits: true } });
    const larger = await planned([
      ...args.slice(0, 4),
      "--megapixels",
      (Number(megapixels) + 0.05).toFixed(2),
      "--vram",
      "4G",
    ]);
    expect(larger.memory).toMatchObject({ gpu: { fit: "no" }, plan: { fits: false } });
  });

  test("at no size is said so", async () => {
    const { advice } = await planned([CAT, ...WINTER, "--vram", "1G"]);
    expect(advice.some(({ text }) => /no size fits/.test(text))).toBe(true);
    expect(advice.some(({ change }) => change?.startsWith("--megapixels"))).toBe(false);
  });

  // The published files: what cards of usual sizes get.
  test.each([
    ["24G", { total: 60, resident: 60, streamed: 0 }],
    ["16G", { total: 60, resident: 60, streamed: 0 }],
    ["12G", { total: 60, resident: expect.any(Number), streamed: expect.any(Number) }],
    ["8G", { total: 60, resident: expect.any(Number), streamed: expect.any(Number) }],
  ])("the published model fits into %s, and streams what it must", async (vram, layers) => {
    const { memory } = await planned([CAT, ...WINTER, "--vram", vram]);
    const transformer = memory.plan!.networks.find(({ network }) => network === "transformer")!;
    expect(memory.plan!.fits).toBe(true);
    expect(transformer.layers).toEqual(layers);
    expect(transformer.layers.resident + transformer.layers.streamed).toBe(60);
    expect(transformer.groups.opensAhead).toBe(transformer.layers.streamed > 0);
  });
});

test("a result that is there already is a warning of plan and of a dry run, which write nothing, and hides no other error", async () => {
  await writeFile(folder.at("there.png"), "");
  const args = [CAT, ...WINTER, ...SMALL, ...models(), ...QUICK];
  for (const command of [["plan"], ["run", "--dry-run"]]) {
    const planning = [...command, ...args, "-o", "there.png"];
    const { code, stdout, stderr } = await plain(planning);
    expect([code, stdout]).toEqual([0, expect.stringContaining("steps")]);
    expect(stderr).toMatch(/^warning: `run` will refuse this: Cannot write there\.png: it is there already$/m);
    expect((await plain([...planning, "--force"])).stderr).not.toContain("there.png");
    expectRefusal(await plain([...planning, "--cfg", "1", "--negative-prompt", "x"]), {
      code: 2,
      message: /no effect/,
    });
    const sheet = await plain([...command, ...args, "-o", "free.png", "--sheet", "there.png"]);
    expect(sheet.stderr).toContain("there.png");
    expect((await plain([...command, ...args, "-o", "many.png", "--count", "2", "--json"])).code).toBe(0);
  }
});

test("a file of previews that is there already is a warning of a dry run", async () => {
  await writeFile(folder.at("seen.png"), "");
  const args = ["run", "--dry-run", CAT, ...WINTER, ...SMALL, ...models(), ...QUICK];
  const { code, stderr } = await plain([...args, "--preview", "seen.png"]);
  expect([code, stderr]).toEqual([0, expect.stringContaining("will refuse this: Cannot write seen.png")]);
  expectRefusal(await plain([...args, "--preview", "seen.bmp"]), { code: 2, message: /picture format of seen\.bmp/ });
});

describe("what run refuses, plan and a dry run refuse", () => {
  test.each([
    ["a size that is no multiple of 16", ["--size", "100x100"], /multiples of 16/],
    ["too many megapixels", ["--megapixels", "99"], /megapixels/],
    ["an option that does not exist", ["--stepps", "4"], /--stepps/],
    ["a setting without effect", ["--cfg", "1", "--negative-prompt", "x"], /no effect/],
    ["a format against the name", ["-o", "x.png", "--format", "webp"], /its name says png/],
    ["a sheet of a format that is not written", ["--sheet", "x.bmp"], /picture format of x\.bmp/],
    ["a quality of another format", ["--jpeg-quality", "50", "-o", "x.png"], /Cannot use --jpeg-quality for a png/],
    ["a mask without its switch", ["--mask", CAT], /--paste-back/],
  ])("%s", async (_, extra, message) => {
    for (const command of [["plan"], ["run", "--dry-run"]]) {
      expectRefusal(await plain([...command, CAT, ...WINTER, ...models(), ...QUICK, ...extra]), { code: 2, message });
    }
  });

  test("a LoRA that fits nothing", async () => {
    const args = [CAT, ...WINTER, ...models(), ...QUICK, "--lora", models()[1]!];
    expectRefusal(await plain(["plan", ...args]), { code: 3, message: /Cannot match/ });
  });

  test("a model file of another kind, in the same words", async () => {
    const args = [CAT, ...WINTER, ...models({ "--vae": models()[5]! }), ...QUICK];
    const [plan, run] = await Promise.all([plain(["plan", ...args]), plain(["run", ...args, "-o", "never.png"])]);
    expectRefusal(plan, { code: 3, message: /transformer\.safetensors/ });
    expect(plan.stderr).toBe(run.stderr);
  });
});
