// Names of devices, their compute types, and the choice of `auto`.
import { describe, expect, test } from "vitest";
import { platformProblem } from "../../src/engine/cuda/inspect-cuda.js";
import { chooseEngine, tryDevice } from "../../src/engine/device.js";
import { computeType, deviceName, parseDevice, parseDevices } from "../../src/engine/providers.js";
import { withSession } from "../../src/engine/sessions/engine.js";
import { float32 } from "../../src/std/tensor.js";
import { affineModel } from "./models.js";

describe("parseDevice", () => {
  test.each([
    ["cpu", { provider: "cpu", index: 0, threads: 3 }, "cpu"],
    ["cuda", { provider: "cuda", index: 0, threads: 3 }, "cuda:0"],
    ["cuda:2", { provider: "cuda", index: 2, threads: 3 }, "cuda:2"],
  ])("reads %s", (text, device, name) => {
    expect(parseDevice(text, 3)).toEqual(device);
    expect(deviceName(parseDevice(text, 3))).toBe(name);
  });

  test.each(["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cuda:1.5", " cpu"])("refuses %j", (text) => {
    expect(() => parseDevice(text, 0)).toThrow(
      expect.objectContaining({
        code: "QEDIT_E_USAGE",
        message: `Cannot compute on "${text}": auto, cpu, cuda or cuda:N is wanted`,
        hint: "device auto",
      }),
    );
  });
});

describe("parseDevices", () => {
  test.each([
    ["auto", "auto"],
    ["cpu", [{ provider: "cpu", index: 0, threads: 3 }]],
    [
      "cuda:1,cuda",
      [
        { provider: "cuda", index: 1, threads: 3 },
        { provider: "cuda", index: 0, threads: 3 },
      ],
    ],
  ])("reads %s", (text, devices) => {
    expect(parseDevices(text, 3)).toEqual(devices);
  });

  test.each([
    ["cuda,cuda:0", 'Cannot use devices "cuda,cuda:0": cuda:0 is repeated'],
    ["cuda:1,cpu,cpu", 'Cannot use devices "cuda:1,cpu,cpu": cpu is repeated'],
    ["auto,cpu", 'Cannot use devices "auto,cpu": auto stands alone'],
    ["cuda:0,gpu", 'Cannot compute on "gpu": auto, cpu, cuda or cuda:N is wanted'],
    ["cuda:0,", 'Cannot compute on "": auto, cpu, cuda or cuda:N is wanted'],
    ["cuda:0, cuda:1", 'Cannot compute on " cuda:1": auto, cpu, cuda or cuda:N is wanted'],
    ["", 'Cannot compute on "": auto, cpu, cuda or cuda:N is wanted'],
  ])("refuses %j", (text, message) => {
    expect(() => parseDevices(text, 0)).toThrow(expect.objectContaining({ code: "QEDIT_E_USAGE", message }));
  });
});

describe("computeType", () => {
  const [cpu, cuda] = [parseDevice("cpu", 0), parseDevice("cuda", 0)];

  test("is float32 on the CPU; on CUDA float16 for the VAE and bfloat16 for the transformer", () => {
    expect(
      (["vae", "text-encoder", "transformer"] as const).map((network) => [
        computeType(cpu, network),
        computeType(cuda, network),
      ]),
    ).toEqual([
      ["f32", "f16"],
      ["f32", "f32"],
      ["f32", "bf16"],
    ]);
  });

  test("is the type that was named", () => {
    expect(computeType(cuda, "transformer", "float32")).toBe("f32");
    expect(computeType(cuda, "text-encoder", "bfloat16")).toBe("bf16");
    expect(computeType(cuda, "vae", "float32")).toBe("f32");
    expect(computeType(cuda, "transformer", "auto")).toBe("bf16");
  });

  test.each([
    ["transformer", "float16", "auto or bfloat16 or float32", "--dtype auto"],
    ["vae", "bfloat16", "auto or float16 or float32", "--vae-dtype auto"],
    ["text-encoder", "float16", "auto or float32 or bfloat16", "--text-dtype auto"],
  ] as const)("refuses the %s in %s on CUDA", (network, wanted, allowed, hint) => {
    expect(() => computeType(cuda, network, wanted)).toThrow(
      expect.objectContaining({
        code: "QEDIT_E_USAGE",
        message: `Cannot compute in "${wanted}" on cuda:0: ${allowed} is wanted`,
        hint,
      }),
    );
  });

  test("refuses a type that the device cannot compute in", () => {
    expect(() => computeType(cpu, "transformer", "bfloat16")).toThrow(
      expect.objectContaining({
        code: "QEDIT_E_USAGE",
        message: 'Cannot compute in "bfloat16" on cpu: auto or float32 is wanted',
        hint: "--dtype auto",
      }),
    );
  });
});

describe("chooseEngine", () => {
  test("uses the CPU when it is named, without a reason", async () => {
    const { engine, reason } = await chooseEngine("cpu", 1);
    await engine.dispose();
    expect([engine.device, reason]).toEqual([{ provider: "cpu", index: 0, threads: 1 }, undefined]);
  });

  test('opens sessions in a child process for the isolation "process"', async () => {
    const { engine } = await chooseEngine("cpu", 1, { isolation: "process" });
    expect(process.getActiveResourcesInfo()).toContain("ProcessWrap");
    expect(await withSession(engine, affineModel(), (session) => session.run({ x: float32([1, 3]) }))).toEqual({
      y: float32([1, 3], Float32Array.of(1, 1, 1)),
    });
    await engine.dispose();
  });

  test("uses the GPU, or has the reason against it in one line", async () => {
    const { engine, reason } = await chooseEngine("auto", 1);
    await engine.dispose();
    if (engine.device.provider === "cuda") expect(reason).toBeUndefined();
    else expect(reason).toMatch(/^[^\n]+$/);
  });

  test("refuses a GPU that does not exist, with the problems and a remedy", async () => {
    await expect(chooseEngine("cuda:99", 1)).rejects.toMatchObject({
      code: "QEDIT_E_DEVICE",
      message: expect.stringMatching(/^Cannot compute on cuda:99: [^\n]+$/),
      hint: expect.stringMatching(/^[^\n]+$/),
    });
  });

  test("refuses a name that is not a device", async () => {
    await expect(chooseEngine("gpu", 1)).rejects.toMatchObject({ code: "QEDIT_E_USAGE", parameter: "device" });
  });
});

describe("tryDevice", () => {
  test("runs a convolution on the CPU and returns its seconds", async () => {
    const { seconds, ...trial } = await tryDevice("cpu");
    expect(trial).toEqual({ device: "cpu", works: true, problems: [] });
    expect(seconds).toBeGreaterThan(0);
  });

  test("returns problems and remedies for a GPU that does not exist", async () => {
    const { works, problems } = await tryDevice("cuda:99");
    expect(works).toBe(false);
    expect(problems.length).toBeGreaterThan(0);
    for (const { text, remedy } of problems)
      expect([text, remedy]).toEqual([expect.stringMatching(/^[^\n]+$/), expect.stringMatching(/^[^\n]+$/)]);
  });
});

describe("platformProblem", () => {
  test.each([
    ["win32-x64", "onnxruntime-node has no CUDA for win32 x64", /WSL 2/],
    ["darwin-arm64", "onnxruntime-node has no CUDA for darwin arm64", /--device cpu/],
    ["linux-arm64", "onnxruntime-node has no CUDA for linux arm64", /--device cpu/],
  ])("reports %s", (platform, text, remedy) => {
    expect(platformProblem({ platform, hasCuda: false })).toEqual({ text, remedy: expect.stringMatching(remedy) });
  });

  test("is undefined where CUDA is supported", () => {
    expect(platformProblem({ platform: "linux-x64", hasCuda: true })).toBeUndefined();
  });
});
