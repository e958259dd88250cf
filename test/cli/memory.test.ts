// --vram and --tile through the command line: the same picture from less memory, and the plan that says so before.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import type { EditPlan } from "../../src/edit/plan/edit-plan.js";
import { readImage } from "../../src/image/io/read.js";
import { CAT, expectRefusal, models, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const work = workFolder();
const SMALL = ["--megapixels", "0.02", "--steps", "3", "--cfg", "2"];

/** Levels of 8 bits: float32 sums in another order may fall on either side of a half. */
const ONE_LEVEL = 1;

const EDIT = ["-p", "make it winter", ...models(), ...SMALL, ...QUICK];
const HERE = { cwd: work.path, env: { QEDIT_HOME: work.at("home") } };

async function run(name: string, options: readonly string[], pictures: readonly string[] = [CAT]) {
  const ended = await qedit(
    ["run", ...pictures, "--no-cache", "--force", "-o", name, "--events", `${name}.ndjson`, ...options],
    HERE,
  );
  expect(ended.code, ended.stderr).toBe(0);
  const events = (await readFile(work.at(`${name}.ndjson`), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const picture = await readImage(work.at(name), name);
  const plans = events.flatMap((event) => (event["event"] === "plan" ? (event["lines"] as string[]) : []));
  return {
    data: picture.data as ArrayLike<number>,
    plans,
    opened: events
      .filter(({ event, action }) => event === "session" && action === "opened")
      .map(({ network }) => network),
    names: events.flatMap(({ event, action, name }) => (event === "session" && action === "opened" ? [name] : [])),
  };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, index) => Math.max(most, Math.abs(value - b[index]!)), 0);
}

test("an edit that streams every layer and works on tiles gives the resident edit's picture", async () => {
  const [resident, streamed] = [
    await run("resident.png", EDIT),
    await run("streamed.png", [...EDIT, "--vram", "1K", "--tile", "64"]),
  ];
  expect(largestDifference(streamed.data, resident.data)).toBeLessThanOrEqual(ONE_LEVEL);
  expect(streamed.plans.join("\n")).toMatch(
    /VAE encoder: tiles of 64x64 pixels.*\nvision tower: .* layers stay open.*\nlanguage model: .* 0 of \d+ layers stay open, the others 1 at a time.*\ntransformer: .* 0 of 2 layers stay open, the others 1 at a time; .*\nVAE decoder: tiles of 64x64 pixels/s,
  );
  expect(streamed.names.filter((each) => each === "the transformer, blocks 0 to 0")).toHaveLength(3);
  expect(resident.plans.join("\n")).not.toMatch(/layers/);
  expect(resident.opened).toContain("transformer");
});

test("a plan that fits is told too, and opens everything once", async () => {
  const { plans, opened } = await run("roomy.png", [...EDIT, "--vram", "2"]);
  expect(plans.filter((line) => /, all open; .* at most$/.test(line)).map((line) => line.split(":")[0])).toEqual([
    "VAE encoder",
    "vision tower",
    "language model",
    "transformer",
    "VAE decoder",
  ]);
  expect(opened).toEqual(["vae-encoder", "vision-tower", "language-model", "modulation", "transformer", "vae-decoder"]);
});

const TINY = [
  "--model",
  "tiny",
  "-p",
  "make it winter",
  "--megapixels",
  "0.05",
  "--steps",
  "2",
  "--cfg",
  "1",
  ...QUICK,
];

test.each([
  [
    "everything streamed and on tiles",
    [CAT],
    [...EDIT, "--vram", "1K", "--tile", "64"],
    /tiles of 64x64.*transformer: .* others 1 at a time;/s,
  ],
  [
    "layers streamed, the next one opening meanwhile",
    [CAT],
    [...TINY, "--vram", "30M"],
    /language model: .* all open;.*transformer: .* 0 of 5 layers stay open, the others 1 at a time while the next open;/s,
  ],
  ["tiles that nobody asked for", [CAT], [...TINY, "--vram", "24M"], /VAE encoder: tiles of 72x72/],
  [
    "all open, with two pictures and a negative prompt",
    [ROCKET, CAT],
    [...EDIT, "--vram", "2G", "--match", "comfyui"],
    /^([^\n]* all open;[^\n]*\n?){5}$/,
  ],
] as const)("plan tells what run then does: %s", async (_, pictures, options, wanted) => {
  const ended = await qedit(["plan", ...pictures, ...options, "--json"], HERE);
  expect(ended.code, ended.stderr).toBe(0);
  const { memory, stages } = JSON.parse(ended.stdout) as EditPlan;
  const { networks } = memory.plan!;
  expect(networks.map(({ text }) => text).join("\n")).toMatch(wanted);
  const { plans, opened } = await run("as-planned.png", options, pictures);
  expect(networks.map(({ text }) => text)).toEqual(
    plans.filter((line) => / at most(, more than there is)?$/.test(line)),
  );
  // Sessions of the run: those that stay open once, the others at every pass.
  const passes = stages.find(({ stage }) => stage === "sample")!.networks[0]!.runs[0]!.times;
  const { groups } = networks.find(({ network }) => network === "transformer")!;
  expect(opened.filter((network) => /^transformer\b/.test(String(network)))).toHaveLength(
    groups.resident + passes * groups.streamed,
  );
  expect(memory.plan!.fits).toBe(networks.every(({ text }) => !text.endsWith("more than there is")));
});

test("plan says that a limit is too small, and names the one that is not", async () => {
  const planned = async (vram: string) =>
    JSON.parse((await qedit(["plan", CAT, ...EDIT, "--vram", vram, "--json"], HERE)).stdout) as EditPlan;
  const { memory, advice } = await planned("64K");
  expect(memory.plan).toMatchObject({ limit: 64 * 1024, fits: false });
  const change = advice.find((each) => each.change?.startsWith("--vram "))!.change!;
  expect(change).toMatch(/^--vram \d+M$/);
  expect((await planned(change.slice("--vram ".length))).memory.plan!.fits).toBe(true);
  const shown = await qedit(["plan", CAT, ...EDIT, "--vram", "64K"], HERE);
  expect(shown.stdout).toContain("networks for 64 KiB: they do not fit");
  expect(shown.stdout).toContain(`${change} is the least that it fits into`);
});

test("a dry run plans for --vram as the run would", async () => {
  const [dry, plan] = await Promise.all(
    [["run", "--dry-run"], ["plan"]].map((command) =>
      qedit([...command, CAT, ...EDIT, "--vram", "90K", "--json"], HERE),
    ),
  );
  const networksOf = (ended: typeof dry) => (JSON.parse(ended!.stdout) as EditPlan).memory.plan!.networks;
  expect(networksOf(dry)).toEqual(networksOf(plan));
});

test("sizes that mean nothing are refused", async () => {
  for (const [option, value] of [
    ["--vram", "much"],
    ["--vram", "-8G"],
    ["--tile", "10"],
  ] as const) {
    expectRefusal(await qedit(["run", CAT, "-p", "x", option, value], { cwd: work.path }), {
      code: 2,
      message: `for ${option}`,
    });
  }
});
