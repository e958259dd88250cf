// qedit doctor, on machines with and without a GPU.
import { chmodSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { DoctorReport } from "../../src/catalog/runtime/diagnosis.js";
import { installedRelease } from "../../src/engine/cuda/release.js";
import { elf } from "../support/elf.js";
import { temporaryFolder } from "../support/folder.js";
import { CAT, type Ended, expectRefusal, models, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const libraries = temporaryFolder();
const doctor = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  qedit(["doctor", ...args], { cwd: folder.path, env });
const report = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  JSON.parse((await doctor([...args, "--json"], env)).stdout) as DoctorReport;

// A program that stands for NVIDIA's, first on PATH.
function nvidiaSmi(name: string, script: string): Readonly<Record<string, string>> {
  const path = libraries.write(`${name}/nvidia-smi`, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return { PATH: `${dirname(path)}:${process.env["PATH"]}` };
}

describe("doctor", () => {
  test("on the CPU ends with 0, and says what is there", async () => {
    const { code, stdout, stderr } = await doctor(["--device", "cpu"]);
    expect([code, stderr]).toEqual([0, ""]);
    for (const line of [
      /^ {2}qedit +\d/m,
      /^✔ Node\.js +\d/m,
      /^ {2}CPU /m,
      /^ {2}memory +[\d.]+ GB, /m,
      /^ {2}disk +[\d.]+ GB free for /m,
      /^✔ session +cpu in \d+\.\d\d s$/m,
    ])
      expect(stdout).toMatch(line);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("✔ Edits compute on cpu");
  });

  test("with --json prints numbers in bytes and seconds", async () => {
    const { machine, sessions, works, device } = await report(["--device", "cpu"]);
    expect([works, device]).toEqual([true, "cpu"]);
    expect(machine).toMatchObject({
      node: process.versions.node,
      isNodeNewEnough: true,
      cpu: { threads: expect.any(Number) },
    });
    expect(machine.memory.total).toBeGreaterThan(machine.memory.available - 1);
    expect(machine.disk.free).toBeGreaterThan(0);
    expect(sessions[0]).toMatchObject({ device: "cpu", works: true, seconds: expect.any(Number), problems: [] });
  });

  test("names each file of the model that is missing, and the command that gets it", async () => {
    const { model, problems } = await report(["--device", "cpu"]);
    expect(model.files.map(({ role }) => role)).toEqual(["vae", "textEncoder", "transformer"]);
    expect(problems).toEqual([
      { text: expect.stringContaining(model.files[0]!.file), remedy: `\`qedit models pull ${model.name}\`` },
    ]);
  });

  test("finds a model's file where it lies", async () => {
    const { model } = await report(["--device", "cpu"]);
    const file = model.files.find(({ role }) => role === "vae")!.file;
    const path = libraries.write(`models/vae/${file}`, "");
    const found = await report(["--device", "cpu"], { QEDIT_MODELS: libraries.at("models") });
    expect(found.model.files).toContainEqual({ role: "vae", file, path });
  });

  test.each([[["--device", "gpu"]], [["--device", "cuda:x"]], [["--model", "no-such-model"]]])(
    "refuses %j",
    async (args) => {
      expectRefusal(await doctor(args), { code: 2, message: /^error: Cannot / });
    },
  );
});

describe.runIf(installedRelease().hasCuda)("doctor on CUDA that does not work", () => {
  // No GPU of any machine has this number.
  const NONE = ["--device", "cuda:99"];

  test("ends with 1, and names what is missing with what mends it", async () => {
    const { code, stdout } = await doctor(NONE);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^Problems:\n {2}- .+\n {4}.+$/m);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("✖ The chosen device does not work");
  });

  test("names each library of CUDA, found or not", async () => {
    const { cuda, works, device } = await report(NONE);
    expect(works).toBe(false);
    expect(device).toBeUndefined();
    const { found, missing } = cuda.libraries!;
    const asked = [...found, ...missing].map(({ soname }) => soname);
    for (const name of ["libcudart", "libcublas", "libcublasLt", "libcurand", "libcudnn"])
      expect(
        asked.some((soname) => soname.startsWith(`${name}.so.`)),
        name,
      ).toBe(true);
  });

  test("auto still ends with 0, on what works", async () => {
    const { works, device, notes } = await report([]);
    expect(works).toBe(true);
    if (device === "cpu") expect(notes.length).toBeGreaterThan(0);
  });

  test("tells a GPU whose driver is too old", async () => {
    const { cuda, problems } = await report(
      ["--device", "cuda:7"],
      nvidiaSmi("old", 'echo "7, NVIDIA T4, 535.104.05, 15360, 15000, 7.5"'),
    );
    expect(cuda.gpus).toMatchObject({
      gpus: [{ index: 7, name: "NVIDIA T4", driver: "535.104.05", memory: 15360 * 1024 ** 2 }],
      source: "nvidia-smi",
    });
    expect(problems).toContainEqual({
      text: "driver 535.104.05 is too old for CUDA 13: 580 or newer is wanted",
      remedy: "Update NVIDIA's driver",
    });
  });

  test("tells which GPUs there are when another is asked for", async () => {
    const { problems } = await report(
      ["--device", "cuda:3"],
      nvidiaSmi("one", 'echo "0, NVIDIA L4, 580.1, 23034, 22000, 8.9"'),
    );
    expect(problems[0]).toEqual({ text: "there is no GPU 3: 0 is NVIDIA L4", remedy: "`--device cuda:0`" });
  });

  test("tells a GPU that CUDA 13 has left behind", async () => {
    const { problems } = await report(
      ["--device", "cuda:0"],
      nvidiaSmi("volta", 'echo "0, Tesla V100, 580.1, 16384, 16000, 7.0"'),
    );
    expect(problems[0]?.text).toBe("Tesla V100 has compute capability 7.0: 7.5 or more is wanted");
  });

  test("finds libraries that the loader does not search", async () => {
    const home = libraries.at("home");
    const path = libraries.write("home/.local/lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9", elf());
    mkdirSync(join(home, "x"), { recursive: true });
    const { cuda } = await report(NONE, { HOME: home });
    const found = cuda.libraries!.found.find(({ soname }) => soname === "libcudnn.so.9");
    if (found?.isSearched !== true)
      expect(found).toEqual({
        soname: "libcudnn.so.9",
        path,
        source: "Python's nvidia packages",
        isSearched: false,
        neededBy: "the VAE's convolutions",
      });
  });
});

test("an edit on CUDA that does not work is refused with doctor's finding, never done on the CPU", async () => {
  const ended = await qedit(
    ["run", CAT, "-p", "x", "--megapixels", "0.01", "-o", "x.png", ...models(), "--device", "cuda:99"],
    { cwd: folder.path },
  );
  const { problems } = await report(["--device", "cuda:99"]);
  expectRefusal(ended, { code: 1, message: `error: Cannot compute on cuda:99: ${problems[0]!.text}`, hint: /./ });
  expect(folder.names()).not.toContain("x.png");
});
