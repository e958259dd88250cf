// Where settings come from, presets, and settings that do not go together.
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { run } from "../../src/cli/commands/run.js";
import { outputOptions } from "../../src/cli/settings/options.js";
import { fileName } from "../../src/edit/parameters/parameter.js";
import { CAT, expectRefusal, LORA, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", CAT, "-p", "make it red", ...models(), ...QUICK, "--megapixels", "0.003"];
const USER = ".config/qedit/config.json";

async function write(name: string, value: unknown): Promise<void> {
  await mkdir(dirname(folder.at(name)), { recursive: true });
  await writeFile(folder.at(name), typeof value === "string" ? value : JSON.stringify(value));
}

interface Explained {
  readonly settings: Record<string, { value: unknown; from: string }>;
}

async function explained(args: readonly string[] = [], env = {}): Promise<Explained["settings"]> {
  const { code, stdout, stderr } = await qedit(["config", "--explain", "--json", ...args], { ...here, env });
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout) as Explained).settings;
}

beforeEach(async () => {
  await rm(folder.at("qedit.json"), { force: true });
  await rm(folder.at(USER), { force: true });
});

describe("config --explain", () => {
  test("shows every setting of run that a file or the environment may set", async () => {
    const table = { ...run.options, ...outputOptions };
    const settable = Object.entries(table).filter(([, { scope }]) => scope !== "call");
    expect(Object.keys(await explained()).sort()).toEqual(settable.map(([name]) => fileName(name)).sort());
  });

  test("shows what the environment says of a picture's file, presets, servers and the terminal", async () => {
    const env = {
      ...{ QEDIT_FORMAT: "webp", QEDIT_JPEG_QUALITY: "90", QEDIT_MEMORY: "1G", QEDIT_SERVER: "none" },
      ...{ QEDIT_REMOTE: "sample=grpc://gpu:8001", QEDIT_QUIET: "1" },
    };
    expect(await explained([], env)).toMatchObject({
      format: { value: "webp", from: "environment QEDIT_FORMAT" },
      "jpeg-quality": { value: 90 },
      memory: { from: "environment QEDIT_MEMORY" },
      server: { value: "none" },
      remote: { from: "environment QEDIT_REMOTE" },
      quiet: { value: true, from: "environment QEDIT_QUIET" },
      json: { value: false, from: "default" },
    });
    const { stdout } = await qedit(["config", "--explain"], { ...here, env });
    expect(stdout).toMatch(/^remote +sample=grpc:\/\/gpu:8001 +environment QEDIT_REMOTE$/m);
  });
});

test.each([
  ["QEDIT_STEP", "8", "did you mean QEDIT_STEPS?"],
  ["QEDIT_CLIP", "x.safetensors", "did you mean QEDIT_TEXT_ENCODER?"],
  ["QEDIT_QQQQQQQQ", "1", "`qedit config --explain` lists the settings"],
  ["QEDIT_PROMPT", "x", "it can only be a flag: --prompt"],
])("a variable that nothing reads is warned of: %s", async (name, value, hint) => {
  const { code, stderr } = await qedit(["config"], { ...here, env: { [name]: value } });
  expect([code, stderr]).toEqual([0, `warning: ${name} has no effect: ${hint}\n`]);
});

test("variables that are read elsewhere, or by other commands, are not warned of", async () => {
  const env = { QEDIT_API_KEY: "k", QEDIT_REMOTE_KEY: "k", QEDIT_SERVICE_HOST: "h", QEDIT_PORT_80_TCP: "p" };
  const others = { QEDIT_STORE: folder.path, QEDIT_HTTP: "80", QEDIT_KAFKA: "a:1", QEDIT_STEP: "" };
  expect((await qedit(["config"], { ...here, env: { ...env, ...others } })).stderr).toBe("");
});

describe("a setting", () => {
  test("comes from the flag, else the environment, else the project, else the user, else its default", async () => {
    await write(USER, { steps: 1, cfg: 1, shift: 1, sampler: "heun" });
    await write("qedit.json", { steps: 2, cfg: 2, shift: 2 });
    const env = { QEDIT_STEPS: "3", QEDIT_CFG: "3" };
    expect(await explained(["--steps", "4"], env)).toMatchObject({
      steps: { value: 4, from: "flag --steps" },
      cfg: { value: 3, from: "environment QEDIT_CFG" },
      shift: { value: 2, from: expect.stringMatching(/^project file .*qedit\.json$/) },
      sampler: { value: "heun", from: expect.stringMatching(/^user file .*config\.json$/) },
      scheduler: { value: "simple", from: "default" },
    });
  });

  test("in a command's own section beats one for all commands", async () => {
    await write("qedit.json", { steps: 2, run: { steps: 5 } });
    expect((await explained())["steps"]?.value).toBe(5);
  });

  test("may be a list, and a switch may be true", async () => {
    await write("qedit.json", { lora: ["a.safetensors:0.5", "b.safetensors"], "keep-size": true });
    expect(await explained()).toMatchObject({
      lora: { value: ["a.safetensors:0.5", "b.safetensors"] },
      "keep-size": { value: true },
    });
  });

  test("may come after a byte order mark, and beside the schema that editors read", async () => {
    await write("qedit.json", `\ufeff${JSON.stringify({ $schema: "./qedit.schema.json", steps: 2 })}`);
    expect((await explained())["steps"]?.value).toBe(2);
  });

  test("from a file reaches the edit", async () => {
    await write("qedit.json", { steps: 3, cfg: 1, seed: 12 });
    const { code, stdout, stderr } = await qedit([...RUN, "--json", "-o", "configured.png"], here);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ info: { settings: { sample: { steps: 3, cfg: 1, seed: "12" } } } });
  });
});

describe("a project's settings file", () => {
  const VICTIM = "precious.txt";

  test.each(["events", "json", "quiet", "no-cache", "cache-limit", "no-color"])(
    "may not set %s, which is no parameter of an edit",
    async (key) => {
      await write("qedit.json", { [key]: key === "events" ? folder.at(VICTIM) : "1" });
      expectRefusal(await qedit(["config"], here), {
        code: 2,
        message: `Cannot use the setting "${key}" in`,
        hint: /Remove it there; set it with --/,
      });
    },
  );

  test.each([
    ["for all commands", (events: string) => ({ events })],
    ["in a section", (events: string) => ({ inspect: { events }, run: { events }, explain: { events } })],
  ])("never has a file of the user written, %s", async (_, values) => {
    await write(VICTIM, "stays");
    await write("qedit.json", values(folder.at(VICTIM)));
    for (const args of [RUN, ["inspect", CAT], ["explain"], ["models", "list"]]) await qedit(args, here);
    expect(await readFile(folder.at(VICTIM), "utf8")).toBe("stays");
  });

  test("may set what an edit is made with", async () => {
    await write("qedit.json", {
      steps: 2,
      device: "cpu",
      vae: "$(touch x)",
      "paste-back": true,
      format: "webp",
      "no-metadata": true,
    });
    expect(await explained()).toMatchObject({
      steps: { value: 2 },
      vae: { value: "$(touch x)" },
      "no-metadata": { value: true },
    });
  });

  test("may not set what the user's own file may", async () => {
    await write(USER, { "no-cache": true, events: folder.at("events.ndjson") });
    expect(await explained()).toMatchObject({ "no-cache": { value: true } });
    expect(await readFile(folder.at("events.ndjson"), "utf8")).toBe("");
  });
});

describe("a wrong setting is refused with its place", () => {
  test("a settings file that is a pipe, without waiting for it", async () => {
    execFileSync("mkfifo", [folder.at("qedit.json")]);
    const ended = await qedit(["config"], here);
    expectRefusal(ended, { code: 1, message: /Cannot read .*qedit\.json: it is a pipe/ });
  });

  test.each([
    ["a misspelled name", { stesp: 4 }, /Cannot use the setting "stesp" in .*qedit\.json/, /Did you mean "steps"\?/],
    [
      "a name in a section",
      { run: { stesp: 4 } },
      /Cannot use the setting "stesp" in "run" in .*qedit\.json/,
      /Did you mean "steps"\?/,
    ],
    [
      "a value out of range",
      { steps: 0 },
      /Cannot use 0 for --steps: .* \(set by "steps" in .*qedit\.json\)$/,
      /config --explain/,
    ],
    ["a flag of one call", { force: true }, /Cannot use the setting "force"/, /./],
    ["no object", "[1]", /it is not a JSON object/, /./],
    ["no JSON", "{steps: 4}", /Cannot read the settings in .*qedit\.json/, /./],
  ])("%s", async (_, values, message, hint) => {
    await write("qedit.json", values);
    expectRefusal(await qedit([...RUN, "-o", "wrong.png"], here), { code: 2, message, hint });
  });

  test("a variable", async () => {
    expectRefusal(await qedit(RUN, { ...here, env: { QEDIT_STEPS: "many" } }), {
      code: 2,
      message: /Cannot use "many" for --steps: .* \(set by QEDIT_STEPS\)/,
    });
  });

  test("explain works all the same", async () => {
    await write("qedit.json", { stesp: 4 });
    expect((await qedit(["explain", "lora"], here)).code).toBe(0);
  });
});

describe("presets", () => {
  test("--fast wants the model's Lightning LoRA, and says how to get it", async () => {
    expectRefusal(await qedit([...RUN, "--fast", "4", "-o", "fast.png"], here), {
      code: 3,
      message: /Cannot find Qwen-Image-Edit-2509-Lightning-4steps/,
      hint: /qedit models pull/,
    });
  });

  test("--fast sets LoRA, steps, cfg and shift together", async () => {
    await mkdir(folder.at("store/loras"), { recursive: true });
    await copyFile(LORA, folder.at("store/loras/Qwen-Image-Edit-2509-Lightning-8steps-V1.0-bf16.safetensors"));
    const { code, stdout, stderr } = await qedit(
      [...RUN, "--fast", "8", "--models-dir", "store", "--json", "-o", "fast.png"],
      here,
    );
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/LoRA .*Lightning-8steps.*: matched 24\/24 modules/);
    expect(JSON.parse(stdout)).toMatchObject({ info: { settings: { sample: { steps: 8, cfg: 1, shift: 3 } } } });
  });

  test("--quality sets steps and cfg", async () => {
    const { stdout } = await qedit([...RUN, "--quality", "--json", "-o", "quality.png"], here);
    expect(JSON.parse(stdout)).toMatchObject({ info: { settings: { sample: { steps: 40, cfg: 4 } } } });
  });

  test("a model's own numbers count where nobody says otherwise", async () => {
    const { stdout } = await qedit(
      [...RUN, "--model", "qwen-image-edit-2511", "--steps", "1", "--json", "-o", "2511.png"],
      here,
    );
    expect(JSON.parse(stdout)).toMatchObject({ info: { settings: { sample: { steps: 1, cfg: 4, shift: 3.1 } } } });
  });
});

test.each([
  ["--size", "64x48", { QEDIT_MEGAPIXELS: "0.1" }, true],
  ["--megapixels", "0.003", { QEDIT_SIZE: "64x48" }, false],
])("%s %s counts before what excludes it in a weaker place", async (flag, value, env, isSize) => {
  const plan = ["plan", CAT, "-p", "make it red", ...models(), ...QUICK, flag, value, "--json"];
  const { code, stdout, stderr } = await qedit(plan, { ...here, env });
  expect(code, stderr).toBe(0);
  const { target } = (JSON.parse(stdout) as { sizes: { target: { size: object } } }).sizes;
  const wanted = { width: 64, height: 48 };
  if (isSize) expect(target.size).toEqual(wanted);
  else expect(target.size).not.toEqual(wanted);
});

test.each([
  [["--steps", "1"], 1],
  [["--shift", "2"], 2],
  [[], 3],
])("%j counts before noise levels of a weaker place", async (flags, steps) => {
  const args = ["run", CAT, "-p", "make it red", ...models(), "--megapixels", "0.003", "--cfg", "1", "--json"];
  const env = { QEDIT_SIGMAS: "1,0.9,0.5,0", QEDIT_STEPS: "2" };
  const { code, stdout, stderr } = await qedit([...args, ...flags, "--force", "-o", "levels.png"], { ...here, env });
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ info: { settings: { sample: { steps } } } });
});

describe.concurrent("refuses what does not go together", () => {
  const LIGHTNING = ["--lora", "Lightning-4steps.safetensors"];
  test.each([
    [["--fast", "4", "--cfg", "3"], /Cannot use --fast 4 and --cfg 3 at once/],
    [["--fast", "4", "--steps", "20"], /Cannot use --fast 4 and --steps 20 at once/],
    [["--fast", "4", "--quality"], /Cannot use --fast and --quality at once/],
    [["--fast", "8", ...LIGHTNING], /Cannot use --fast 8 and the Lightning LoRA/],
    [["--fast", "5"], /Cannot use "5" for --fast: one of 4, 8 is wanted/],
    [["--cfg", "1", "--negative-prompt", "bad"], /Cannot use a negative prompt at cfg 1: it has no effect/],
    [["--cfg", "1", "--cfg-norm", "0.5"], /Cannot use --cfg-norm at cfg 1/],
    [["--strict-lora"], /Cannot be strict about LoRAs: there is none/],
    [[...LIGHTNING, "--cfg", "2.5"], /Cannot use cfg 2.5 with a Lightning LoRA/],
    [[...LIGHTNING, "--steps", "20"], /Cannot use 20 steps with a Lightning LoRA made for 4/],
  ])("%j", async (args, message) => {
    expectRefusal(await qedit([...RUN, "-o", "refused.png", ...args], here), { code: 2, message, hint: /./ });
  });
});

test("refuses a LoRA that was made for another model", async () => {
  const args = [
    "run",
    CAT,
    "-p",
    "x",
    "--model",
    "qwen-image-edit-2509",
    ...models({}, ["--vae", "--text-encoder"]),
    "--lora",
    "loras/Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
  ];
  expectRefusal(await qedit(args, here), {
    code: 2,
    message:
      /Cannot use Qwen-Image-Edit-2511-Lightning.* with qwen-image-edit-2509: it was made for qwen-image-edit-2511/,
    hint: /--model qwen-image-edit-2511/,
  });
});

test("--force turns a refusal into a warning", async () => {
  const { code, stderr } = await qedit(
    [...RUN, "--cfg", "1", "--steps", "1", "--negative-prompt", "bad", "--force", "-o", "forced.png"],
    here,
  );
  expect(code).toBe(0);
  expect(stderr).toMatch(/^warning: Cannot use a negative prompt at cfg 1/m);
});

test("a useless setting of a file only warns: it may be meant for other calls", async () => {
  await write("qedit.json", { "cfg-norm": 0.5 });
  const { code, stderr } = await qedit([...RUN, "--cfg", "1", "--steps", "1", "-o", "warned.png"], here);
  expect(code).toBe(0);
  expect(stderr).toMatch(/^warning: Cannot use --cfg-norm at cfg 1/m);
});
