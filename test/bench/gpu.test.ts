// The measurement on a GPU, rehearsed: the same script goes the whole way on the CPU with tiny networks.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { transformerFlops } from "../../bench/gpu/floor.js";
import { MEASURES } from "../../bench/gpu/measures.js";
import { attentionKernels } from "../../bench/gpu/process.js";
import { type GpuReport, type NetworkResult, readReport } from "../../bench/gpu/results.js";
import { reportText } from "../../bench/gpu/tables.js";
import { isMet, isRight, targetsOf } from "../../bench/gpu/targets.js";
import { publishedTensors } from "../../fixtures/headers/published.js";

const folder = mkdtempSync(join(tmpdir(), "qedit-"));
afterAll(() => rmSync(folder, { recursive: true }));

const root = fileURLToPath(new URL("../..", import.meta.url));

const TRANSFORMERS = ["transformer", "transformer-scaled-fp8", "transformer-2511"];

function bench(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  return spawnSync(process.execPath, ["--import", "tsx", "bench/gpu.ts", ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
}

describe("a rehearsal", () => {
  const json = join(folder, "results.json");
  const { status, stdout, stderr } = bench(["--rehearse", "--json", json], { QEDIT_BENCH_PYTHON: "/nowhere/python" });
  const report = readReport(json);

  test("measures every network, cold and warm edits and the machine's rate", () => {
    expect(status, stderr).toBe(0);
    expect(Object.keys(report.networks).sort()).toEqual([
      "language",
      "language-bf16",
      "transformer",
      "transformer-lora",
      "vae-decode",
      "vae-decode-f32",
      "vae-encode",
      "vae-encode-f32",
      "vision",
      "vision-bf16",
    ]);
    expect(report.networks).toMatchObject({
      transformer: { compute: "bf16" },
      language: { compute: "f32" },
      "language-bf16": { compute: "bf16" },
      "vae-decode": { compute: "f16" },
    });
    expect(Object.keys(report.networks.transformer!.runs)).toEqual(["1", "2", "3"]);
    for (const { runs, withoutKernel } of Object.values(report.networks)) {
      expect(withoutKernel).toEqual([]);
      for (const { all, median } of Object.values(runs)) expect([all.length, median > 0]).toEqual([6, true]);
    }
    expect(report.edits).toHaveLength(2);
    for (const edit of [...report.edits, report.warm!])
      expect(Object.keys(edit.stages).sort()).toEqual(["decode", "encode-image", "encode-prompt", "sample"]);
    expect(report.edits.map(({ steps }) => steps.length)).toEqual([4, 4]);
    expect(report.warm!.steps).toHaveLength(12);
    expect(report.warm!.seconds).toBeLessThan(report.edits[0]!.seconds);
    expect(report.matrixFlops).toBeGreaterThan(0);
  });

  test("finds the tiny networks equal to the reference", () => {
    expect(report.parity!.map(({ network }) => network)).toEqual([
      "vae encode",
      "vae decode",
      "vision",
      "language",
      ...TRANSFORMERS,
      ...TRANSFORMERS.map((name) => `${name} in the other forms`),
    ]);
    for (const { network, error, tolerance } of report.parity!) expect(error, network).toBeLessThan(tolerance);
  });

  test("leaves PyTorch out in one clear line where there is none", () => {
    const none = expect.stringMatching(
      /^no PyTorch, \/nowhere\/python: .*; QEDIT_BENCH_PYTHON names a Python with it$/,
    );
    expect(report.skipped).toMatchObject({ pytorch: none, "pytorch networks": none });
    expect(stderr).toMatch(/^\d+ s left: pytorch is left out: no PyTorch/m);
  });

  test("times every measure on both sides", () => {
    expect(Object.keys(report.measures)).toEqual(Object.keys(MEASURES));
    expect(Object.keys(report.skipped).sort()).toEqual(["pytorch", "pytorch networks"]);
    for (const { without, with: with_ } of Object.values(report.measures))
      expect([without.all.length, with_.all.length]).toEqual([11, 11]);
    expect(report.measures["norms"]!.with.nodes).toBeLessThan(report.measures["norms"]!.without.nodes);
    // Weights that are widened once are so by ONNX Runtime, whose graph this is not.
    expect(report.measures["resident"]!.with.nodes).toBe(report.measures["resident"]!.without.nodes);
    expect(report.measures["norms"]!.difference).toBeGreaterThan(0);
    // In bfloat16 the forms round at other places.
    for (const name of ["norms", "vectors", "gelu", "gates", "loras", "fp8"])
      expect(report.measures[name]!.difference, name).toBeLessThan(2e-2);
  });

  test("prints the table that its file makes", () => {
    expect(stdout).toBe(`${reportText(report)}\n`);
    expect(stdout).toContain("| one step, 3 references |");
    expect(stdout).toContain("| LoRAs stacked, not apart |");
    expect(stdout).toContain("a rehearsal on tiny networks: the numbers mean nothing");
  });
});

test("without time left every part is named as not measured", () => {
  const json = join(folder, "hurried.json");
  const { status } = bench(["--rehearse", "--minutes", "0", "--json", json]);
  const { skipped, networks } = readReport(json);
  expect([status, networks, new Set(Object.values(skipped))]).toEqual([1, {}, new Set(["no time left"])]);
  expect(Object.keys(skipped)).toContain("transformer");
});

test("without a GPU one line says so, and nothing is measured", () => {
  // nvidia-smi is looked for on PATH; where the driver is found in spite of that, there is nothing to try here.
  const { status, stdout, stderr } = bench([], { PATH: "/nowhere" });
  if (!stderr.startsWith("Cannot measure")) return;
  expect([status, stdout, stderr.trim().split("\n").length]).toEqual([1, "", 1]);
});

test("one step is as many operations as the shapes of its matrices say", () => {
  const target = 4096;
  const flops = transformerFlops(publishedTensors("qwen_image_edit_2509_fp8_e4m3fn"), {
    text: 250,
    image: 2 * target,
    target,
  });
  // Per block and image token 12 · 3072², the same for text; attention 4 · S² · 3072. Of the last of 60 blocks two are for keys and values, ten and the
  // attention's queries for the target alone.
  const [matrix, all] = [2 * 3072 ** 2, 2 * target + 250];
  const last = matrix * (2 * all + 10 * target) + 4 * target * all * 3072;
  const blocks = 59 * (12 * matrix * all + 4 * all ** 2 * 3072) + last;
  expect(flops / blocks).toBeGreaterThan(1);
  expect(flops / blocks).toBeLessThan(1.001);
});

test("attention kernels are counted by what ONNX Runtime prints", () => {
  const line = (kernel: string) =>
    `Operator=MultiHeadAttention Node=transformer_blocks.0.attn/MultiHeadAttention DataType=bf16 SdpaKernel=${kernel}\n`;
  expect(attentionKernels(`${line("CUDNN_FLASH_ATTENTION").repeat(60) + line("MATH")}something else\n`)).toEqual({
    "MultiHeadAttention CUDNN_FLASH_ATTENTION": 60,
    "MultiHeadAttention MATH": 1,
  });
});

const runs = (median: number) => ({ first: 1, median, all: [1, median], peakBytes: 21e9 });
const right = { rms: 0.01, largest: 0.012 };

/** What a GPU might give, with one error of a network as asked. */
function measured(error: number | null): GpuReport {
  const network: Omit<NetworkResult, "runs"> = {
    graph: 1,
    session: 2,
    nodes: 3,
    form: "",
    compute: "bf16",
    withoutKernel: [],
    attention: {},
  };
  const edit = (seconds: number) => ({ seconds, stages: { sample: seconds / 2 }, steps: [0.3], peakBytes: 23e9 });
  return {
    ...readReport(join(folder, "results.json")),
    isRehearsal: false,
    matrixFlops: 700e12,
    networks: {
      transformer: { ...network, runs: { 1: runs(0.3), 2: runs(0.6) }, flops: { 1: 167e12 } },
      language: { ...network, compute: "f32", runs: { 1: runs(0.05) } },
    },
    edits: [edit(20), edit(11)],
    warm: edit(1.3),
    pytorch: {
      versions: { torch: "2.13" },
      matrixFlops: 700e12,
      notes: [],
      runs: [
        { ...runs(0.4), network: "transformer", references: 1, way: "eager", difference: right },
        { ...runs(0.25), network: "transformer", references: 1, way: "compiled", difference: right },
        { ...runs(0.7), network: "transformer", references: 2, way: "eager", difference: right },
        { ...runs(0.1), network: "language", references: 1, way: "eager", difference: right },
      ],
      errors: [
        { ...right, network: "transformer", references: 1, compute: "bf16", own: right },
        { network: "language", references: 1, compute: "f32", rms: 0.001, largest: error },
      ],
    },
  };
}

test("a table sets qedit against the faster of PyTorch's ways, and against the floor", () => {
  const text = reportText(measured(0.002));
  expect(text).toContain("| one step, 1 reference | 0.300 s | 0.400 s | 0.250 s | 1.20 | 0.239 s | 1.26 | 21.0 GB |");
  expect(text).toContain("| language model, f32 | 50.0 ms | 0.100 s |  | 0.50 |  |  | 21.0 GB |");
  expect(text).toContain("| transformer | bf16 | 1.0e-2 | 1.2e-2 | 2.0e-2 | 1.0e-2 / 1.2e-2 |");
});

test("every target stands beside what was measured, and whether it is met", () => {
  const report = measured(0.002);
  expect(targetsOf(report).map(isMet)).toEqual([true, false, false, true, true, true, true, true]);
  const text = reportText(report);
  expect(text).toContain("| a step with 2 references | 0.510 s | 0.600 s | no |");
  expect(text).toContain("| a warm edit with 1 reference | 1.400 s | 1.300 s | yes |");
  expect(text).toContain("| cold process to picture | 12.0 s | 11.0 s | yes |");
  const { pytorch: _, warm: __, ...without } = report;
  expect(reportText(without)).toContain("| largest relative error of a network | 2.0e-2 |  | not measured |");
});

test.each([
  [0.03, "3.0e-2"],
  [null, "no number"],
])("a network that is not PyTorch's, by %s, misses its target and fails the run", (error, text) => {
  const report = measured(error);
  expect([isRight(measured(0.002)), isRight(report)]).toEqual([true, false]);
  expect(isMet(targetsOf(report).at(-1)!)).toBe(false);
  expect(reportText(report)).toContain(`| language model | f32 | 1.0e-3 | ${text} | 2.0e-2, exceeded |`);
});

test("a type that an edit has to be asked for is reported and not judged", () => {
  const report = measured(0.002);
  const errors = [
    ...report.pytorch!.errors,
    { network: "language-bf16", references: 1, compute: "bf16", rms: 0.019, largest: 0.03 } as const,
  ];
  const more = { ...report, pytorch: { ...report.pytorch!, errors } };
  expect([isRight(more), isMet(targetsOf(more).at(-1)!)]).toEqual([true, true]);
  expect(reportText(more)).toContain("| language model | bf16 | 1.9e-2 | 3.0e-2 | reported only |");
});

test("what is committed as results is of a real GPU", () => {
  const committed = join(root, "bench/results/gpu.json");
  const isThere = spawnSync("git", ["ls-files", "--error-unmatch", committed], { cwd: root }).status === 0;
  if (isThere)
    expect(JSON.parse(readFileSync(committed, "utf8"))).toMatchObject({
      isRehearsal: false,
      machine: { gpu: expect.any(String) },
    });
});
