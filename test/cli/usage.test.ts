// What the command line says about itself, and how it refuses what it cannot read.
import { describe, expect, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { CAT, expectRefusal, FILES, models, QUICK, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const COMMANDS = ["run", "encode-image", "encode-prompt", "sample", "decode"];

describe("help", () => {
  test("of qedit lists every command and an example, on stdout", async () => {
    const { code, stdout, stderr } = await qedit(["--help"], here);
    expect([code, stderr]).toEqual([0, ""]);
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${command} `, "m"));
    expect(stdout).toMatch(/Example:\n  qedit run photo\.jpg -p/);
  });

  test.each(COMMANDS)("of %s starts with an example and explains every option it takes", async (command) => {
    const { code, stdout, stderr } = await qedit([command, "--help"], here);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(new RegExp(`^Examples:\n  qedit ${command} `));
    const options = [...stdout.matchAll(/^  (?:-\w, )?(--[\w-]+)(?: <[^>]+>)? {2,}\S/gm)].map((match) => match[1]);
    expect(options).toEqual(
      expect.arrayContaining([
        "--output",
        "--model",
        "--device",
        "--threads",
        "--json",
        "--quiet",
        "--debug",
        "--help",
      ]),
    );
  });

  test("is what a bare qedit shows, on stderr, as a usage error", async () => {
    const { code, stdout, stderr } = await qedit([], here);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: qedit");
  });
});

describe("--version", () => {
  // Reports the native libraries that are loaded when a thread ends.
  const PROBE = `data:text/javascript,${encodeURIComponent(
    "process.report.excludeNetwork = true; process.on('exit', () => process._rawDebug('LOADED ' + process.report.getReport().sharedObjects.join(' ')));",
  )}`;
  const probed = { ...here, node: ["--import", PROBE] };

  test("prints the version alone", async () => {
    expect(await qedit(["--version"], here)).toMatchObject({
      code: 0,
      signal: null,
      stdout: `${packageJson.version}\n`,
      stderr: "",
    });
  });

  test.runIf(process.platform === "linux")(
    "loads neither ONNX Runtime nor sharp, which encode-image does",
    async () => {
      const version = await spawned(["--version"], probed);
      expect(version.stderr).toContain("LOADED ");
      expect(version.stderr).not.toMatch(/onnxruntime|sharp|vips/);
      const encode = await spawned(
        ["encode-image", CAT, ...models({}, ["--vae"]), ...QUICK, "--megapixels", "0.001", "-o", "probe.safetensors"],
        probed,
      );
      expect(encode.stderr).toMatch(/onnxruntime/);
      expect(encode.stderr).toMatch(/sharp/);
    },
  );
});

describe.concurrent("refuses as a usage error", () => {
  test.each([
    [["frobnicate"], /^error: Unknown command 'frobnicate'/, /^  hint: qedit --help$/],
    [["runn"], /^error: Unknown command 'runn'/, /Did you mean run\?/],
    [["run"], /^error: No --prompt was given/, /^  hint: Add --prompt <text>/],
    [["run", "-p", "a red bicycle"], /^error: No picture was given/, /^  hint: Give at least one/],
    [["decode"], /^error: Missing required argument 'samples'/, /^  hint: qedit decode --help$/],
    [["decode", "a", "b"], /^error: Too many arguments for 'decode'/, /^  hint: qedit decode --help$/],
    [["run", "a.png", "--stesp", "3"], /^error: Unknown option '--stesp'/, /Did you mean --steps\?/],
    [["run", "a.png", "--step", "3"], /^error: Unknown option '--step'/, /Did you mean.*--steps/],
    [["run", "a.png", "--steps"], /^error: Option '--steps <count>' argument missing/, /^  hint: qedit run --help$/],
    [
      ["encode-image", "a.png", "--steps", "3"],
      /^error: Unknown option '--steps'/,
      /^  hint: qedit encode-image --help$/,
    ],
    [["decode", "a", "--seed", "3"], /^error: Unknown option '--seed'/, /^  hint: qedit decode --help$/],
  ])("%j", async (args, message, hint) => {
    expectRefusal(await qedit(args, here), { code: 2, message, hint });
  });

  test.each([
    ["--steps", "0", "a whole number from 1 to 10000"],
    ["--steps", "2.5", "a whole number from 1 to 10000"],
    ["--steps", "10001", "a whole number from 1 to 10000"],
    ["--steps", "many", "a whole number from 1 to 10000"],
    ["--cfg", "-1", "a number from 0 to 100"],
    ["--cfg", "", "a number from 0 to 100"],
    ["--cfg", "Infinity", "a number from 0 to 100"],
    ["--cfg-norm", "x", "a number from 0 to 100, or none"],
    ["--cfg-norm", "off", "a number from 0 to 100, or none"],
    ["--lcm-noise", "-1", "a number from 0 to 64"],
    ["--lcm-noise-clip", "11", "a number from 0 to 10"],
    ["--reference-method", "uno", "one of index, offset, uxo, index_timestep_zero"],
    ["--shift", "0", "a number from 0.01 to 100"],
    ["--denoise", "1.5", "a number from 0 to 1"],
    ["--seed", "-1", "a whole number from 0 to 2^64 - 1"],
    ["--seed", "18446744073709551616", "a whole number from 0 to 2^64 - 1"],
    ["--seed", "abc", "a whole number from 0 to 2^64 - 1"],
    ["--sampler", "eular", "one of .*euler.*"],
    ["--scheduler", "", "one of .*simple.*"],
    ["--match", "a1111", "one of comfyui, comfyui-kontext"],
    ["--dtype", "float16", "one of auto, float32, bfloat16"],
    ["--format", "gif", "one of png, jpg, jpeg, webp"],
    ["--size", "1024", "WIDTHxHEIGHT, such as 1184x880"],
    ["--size", "64 x 64", "WIDTHxHEIGHT, such as 1184x880"],
    ["--megapixels", "-1", "a number of at least 0"],
    ["--threads", "0", "a whole number from 1 to 1024"],
  ])("%s %j", async (option, value, wanted) => {
    const ended = await qedit(["run", CAT, option, value], here);
    expectRefusal(ended, {
      code: 2,
      message: new RegExp(`^error: Cannot use "${value}" for ${option}: ${wanted.replace("^", "\\^")} is wanted$`),
      hint: /qedit run --help/,
    });
    expect(ended.stderr.split("\n"), "the error and its hint alone").toHaveLength(3);
  });

  test.each(["gpu", "cuda:x", "CPU"])("--device %s, before model files are looked for", async (device) => {
    const message = `error: Cannot use "${device}" for --device: auto, cpu, cuda or cuda:N is wanted`;
    expectRefusal(await qedit(["run", CAT, "-p", "x", "--device", device], here), {
      code: 2,
      message,
      hint: "  hint: `qedit run --help` explains every parameter",
    });
  });

  test.each([
    [["--size", "100x100"], /Cannot plan for 100x100: sides must be multiples of 16/, /--size 96x96/],
    [
      ["--size", "64x64", "--megapixels", "1"],
      /Cannot plan for megapixels and a size at once/,
      /--megapixels and --size/,
    ],
    [["--size", "160000x160000"], /Cannot plan for 160000x160000: that is more than 16 megapixels/, /--megapixels 1/],
    [["--megapixels", "1e9"], /wanted from 0\.00024 to 16/, /--megapixels 1/],
    [["-o", "out.png", "--format", "jpg"], /Cannot write out\.png as jpg: its name says png/, /Leave out --format/],
    [
      ["--size", "64x64", "--match", "comfyui"],
      /Cannot plan for a size in mode comfyui/,
      /Leave out --size or --match/,
    ],
    [["--megapixels", "0"], /Cannot plan for 0 megapixels: wanted from 0\.00024 to 16/, /--megapixels 1/],
    [
      ["--model", "qwen"],
      /Cannot find a model named "qwen": qwen-image-edit-2509, .* are known/,
      /`qedit models list` says what each is/,
    ],
    [["-o", "out.gif"], /Cannot tell the picture format of out\.gif: found "\.gif"/, /\.png, \.jpg, \.jpeg, \.webp/],
    [["-o", "out"], /Cannot tell the picture format of out: found no extension/, /\.png, \.jpg, \.jpeg, \.webp/],
  ])("run with %j", async (options, message, hint) => {
    const ended = await qedit(["run", CAT, "-p", "x", ...models(), ...QUICK, ...options], here);
    expectRefusal(ended, { code: 2, message, ...(hint ? { hint } : {}) });
  });

  test("run without a prompt, with what to add", async () => {
    expectRefusal(await qedit(["run", CAT, ...models(), ...QUICK], here), {
      code: 2,
      message: "error: No --prompt was given",
      hint: /Add --prompt <text>/,
    });
  });

  test.each([
    [["sample", ...models({}, ["--transformer"])], /No --latents was given/, /encode-image/],
    [["sample", ...models({}, ["--transformer"]), "--latents", "a"], /No --cond was given/, /encode-prompt/],
  ])("%j", async (args, message, hint) => {
    expectRefusal(await qedit([...args, ...QUICK], here), { code: 2, message, hint });
  });
});

describe("devices", () => {
  test("--device cuda without a GPU is a failure that says what to do", async () => {
    const ended = await qedit(["run", CAT, "-p", "x", ...models(), "--device", "cuda:99"], here);
    expectRefusal(ended, {
      code: 1,
      message: /^error: Cannot compute on cuda:99: \S/,
      hint: /^ {2}hint: `?--device c/,
    });
  });

  test("without --device the GPU is taken, or one line says why not", async () => {
    const ended = await qedit(
      ["encode-image", CAT, "--vae", FILES["--vae"], "--megapixels", "0.001", "--json", "-o", "auto.safetensors"],
      here,
    );
    expect(ended.code).toBe(0);
    const isGpu = (JSON.parse(ended.stdout) as { device: string }).device.startsWith("cuda:");
    expect(ended.stderr.match(/^computing on the CPU: \S.*$/gm) ?? []).toHaveLength(isGpu ? 0 : 1);
  });
});

test("--debug adds the stack of an error, above its message", async () => {
  const { stderr, code } = await qedit(["run", "missing.png", "-p", "x", "--debug", ...models(), ...QUICK], here);
  expect(code).toBe(2);
  expect(stderr).toMatch(/^\s+at /m);
  expect(stderr).toMatch(/\nerror: Cannot read missing\.png: there is no such file\n(  hint: .*\n)?$/);
});
