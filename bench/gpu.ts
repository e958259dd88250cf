// Measures qedit on a GPU, and PyTorch beside it: `npm run bench:gpu`, or where there is no npm `node bench/build/bench/gpu.js` (bench/README.md).
// [--minutes 10] [--folder DIR] [--keep] [--json FILE] [--device cuda:0] [--rehearse]: --rehearse runs everything on the CPU with tiny networks.
// Measures the most important parts first; lists those that there was no time for. Exits with 1 if the tiny networks differ from the reference,
// or a network at full size differs from PyTorch by more than 2e-2.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { publishedTensors } from "../fixtures/headers/published.js";
import { readSafetensors } from "../src/checkpoint/safetensors/safetensors.js";
import { deviceName, parseDevice } from "../src/engine/providers.js";
import { type EditOptions, type EditTimes, timeEdit, timeWarmEdits } from "./gpu/edit.js";
import { type ModelFiles, repositoryRoot, tinyFiles, writeFullFiles } from "./gpu/files.js";
import { transformerFlops } from "./gpu/floor.js";
import { gpuMachine, watchMemory } from "./gpu/machine.js";
import { MEASURES, timeMeasure } from "./gpu/measures.js";
import { type GpuNetworkName, type Opening, OTHER_NETWORKS, OTHER_TYPES, promptTokens } from "./gpu/networks.js";
import type { ParityRow } from "./gpu/parity.js";
import { type NetworkProcess, startNetwork } from "./gpu/process.js";
import { type Dump, findPython, runPyTorch } from "./gpu/pytorch.js";
import { type EditResult, type GpuReport, type GpuRuns, runsOf, saveReport } from "./gpu/results.js";
import { FULL, SMALL } from "./gpu/sizes.js";
import { reportText } from "./gpu/tables.js";
import { isRight } from "./gpu/targets.js";
import { now } from "./report.js";

/** Runs after the first. */
const RUNS = 5;
/** Seconds that PyTorch may take for the transformer: eager and compiled runs with 1 to 3 references, and one in float32. */
const PYTORCH_SECONDS = 170;
/** Longest part of an error message that is kept: ONNX Runtime appends locations in its source. */
const MESSAGE_LENGTH = 300;

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    folder: { type: "string" },
    keep: { type: "boolean", default: false },
    json: { type: "string" },
    device: { type: "string" },
    rehearse: { type: "boolean", default: false },
  },
});
const { rehearse } = options;
const machine = await gpuMachine();
if (!rehearse && machine.gpu === undefined) {
  process.stderr.write(
    "Cannot measure: nvidia-smi knows no GPU here; `npm run bench:gpu -- --rehearse` goes the whole way on the CPU with tiny networks\n",
  );
  process.exit(1);
}
const device = parseDevice(options.device ?? "cuda:0", 0);
/** The device of everything but the networks. */
const place = rehearse ? "cpu" : deviceName(device);
const sizes = rehearse ? SMALL : FULL;
const json = options.json ?? join(repositoryRoot(), `bench/results/${rehearse ? "gpu-rehearsal" : "gpu"}.json`);
const deadline = performance.now() + Number(options.minutes) * 60_000;
const secondsLeft = () => (deadline - performance.now()) / 1000;
const report: GpuReport = {
  date: now(),
  isRehearsal: rehearse,
  device: place,
  machine,
  networks: {},
  edits: [],
  measures: {},
  skipped: {},
};
const say = (text: string) => void process.stderr.write(`${Math.round(secondsLeft())} s left: ${text}\n`);

const work = await mkdtemp(join(tmpdir(), "qedit-bench-"));
using memory = watchMemory();
try {
  const files = await modelFiles();
  await measureAll({ files, sizes, device, isRehearsal: rehearse });
} finally {
  await rm(work, { recursive: true, force: true });
  if (options.folder === undefined || rehearse || options.keep) say(`results are in ${json}`);
  else await removeWeights(options.folder);
}
process.stdout.write(`${reportText(report)}\n`);
process.exit(isRight(report) ? 0 : 1);

async function modelFiles(): Promise<ModelFiles> {
  if (rehearse) return tinyFiles();
  const folder = options.folder ?? work;
  await mkdir(folder, { recursive: true });
  const start = performance.now();
  const { files, bytes } = await writeFullFiles(folder, say);
  report.checkpoints = { bytes, seconds: (performance.now() - start) / 1000 };
  return files;
}

async function removeWeights(folder: string): Promise<void> {
  for (const name of [
    "qwen_image_vae",
    "qwen_2.5_vl_7b_fp8_scaled",
    "qwen_image_edit_2509_fp8_e4m3fn",
    "lightning_lora_bf16",
  ]) {
    await rm(join(folder, `${name}.safetensors`), { force: true });
  }
}

async function measureAll(opening: Opening): Promise<void> {
  await part("parity", 10, async () => void (report.parity = await parity(opening)));
  await part("matrix", 20, async () => void (report.matrixFlops = await matrixRate(opening)));
  const steps: Dump[] = [];
  await part("transformer", 60, () =>
    measureNetwork("transformer", opening, { references: referenceCounts(), dumps: steps }),
  );
  await part("pytorch", 60, () =>
    measurePyTorch(opening, steps, { seconds: Math.min(secondsLeft(), PYTORCH_SECONDS), matrix: sizes.matrix }),
  );
  await part(
    "edit",
    40,
    async () => void report.edits.push(await measureEdit(opening, (edit) => timeEdit(edit, "first"))),
  );
  await part(
    "edit again",
    40,
    async () => void report.edits.push(await measureEdit(opening, (edit) => timeEdit(edit, "again"))),
  );
  await part("warm edits", 40, async () => void (report.warm = await measureEdit(opening, timeWarmEdits)));
  const results: Dump[] = [];
  for (const name of [...OTHER_NETWORKS, ...OTHER_TYPES])
    await part(name, 20, () => measureNetwork(name, opening, { references: [1], dumps: results }));
  await part("pytorch networks", 30, () => measurePyTorch(opening, results, { seconds: secondsLeft(), matrix: 0 }));
  for (const [name, measure] of Object.entries(MEASURES)) {
    await part(
      `measure ${name}`,
      20,
      async () => void (report.measures[name] = await timeMeasure(measure, { opening, folder: work })),
    );
  }
  await part("transformer-lora", 40, () => measureNetwork("transformer-lora", opening, { references: [1] }));
}

// If a part fails, the others still run.
async function part(name: string, estimate: number, measure: () => Promise<void>): Promise<void> {
  if (secondsLeft() < estimate) report.skipped[name] = "no time left";
  else {
    say(name);
    memory.peak();
    await measure().catch(
      (error: unknown) =>
        void (report.skipped[name] = shortened(error instanceof Error ? error.message : String(error))),
    );
  }
  if (report.skipped[name] !== undefined) say(`${name} is left out: ${report.skipped[name]}`);
  await saveReport(json, report);
}

function shortened(message: string): string {
  return message.length <= MESSAGE_LENGTH ? message : `${message.slice(0, MESSAGE_LENGTH)}…`;
}

function referenceCounts(): number[] {
  return Array.from({ length: sizes.references }, (_, index) => index + 1);
}

async function parity(opening: Opening): Promise<readonly ParityRow[]> {
  await using child = startNetwork();
  return await child.ask({ kind: "parity", opening });
}

// The difference of two runs of different length does not contain the time of feeds and outputs.
async function matrixRate(opening: Opening): Promise<number> {
  const times: number[] = [];
  for (const network of ["matrix", "matrix-longer"] as const) {
    await using child = startNetwork();
    await child.ask({ kind: "open", network, opening });
    times.push((await runs(child, 1)).median);
  }
  const [short, long] = times as [number, number];
  if (long <= short)
    throw new Error(`${sizes.products} products more took no longer: ${long.toFixed(4)} s after ${short.toFixed(4)} s`);
  return (2 * sizes.matrix ** 3 * sizes.products) / (long - short);
}

async function runs(child: NetworkProcess, references: number): Promise<GpuRuns> {
  const all: number[] = [];
  await child.ask({ kind: "feed", references });
  memory.peak();
  for (let run = 0; run <= RUNS; run += 1) all.push((await child.ask({ kind: "run", references })).seconds);
  return runsOf(all, memory.peak());
}

interface NetworkOptions {
  readonly references: readonly number[];
  /** File for the feeds and outputs of the network. */
  readonly dumps?: Dump[];
}

async function measureNetwork(
  network: GpuNetworkName,
  opening: Opening,
  { references, dumps }: NetworkOptions,
): Promise<void> {
  await using child = startNetwork();
  const opened = await child.ask({ kind: "open", network, opening });
  const flops = network.startsWith("transformer") ? await stepFlops(opening, references) : undefined;
  const measured: Record<number, GpuRuns> = {};
  for (const count of references) {
    measured[count] = await runs(child, count);
    report.networks[network] = { ...opened, attention: child.attention(), runs: measured, ...(flops ? { flops } : {}) };
    await saveReport(json, report);
    if (dumps) {
      const path = join(work, `${network}-${count}.safetensors`);
      await child.ask({ kind: "dump", references: count, path });
      dumps.push({
        network,
        kind: network.replace(/-(?:f32|bf16)$/, ""),
        references: count,
        compute: opened.compute,
        dump: path,
      });
    }
  }
}

async function stepFlops({ files }: Opening, references: readonly number[]): Promise<Record<number, number>> {
  const tensors = rehearse
    ? [...(await readSafetensors(files.transformer)).tensors].map(([name, { shape }]) => ({ name, shape }))
    : publishedTensors("qwen_image_edit_2509_fp8_e4m3fn");
  const target = sizes.side ** 2;
  return Object.fromEntries(
    references.map((count) => [
      count,
      transformerFlops(tensors, { text: promptTokens(sizes, count), image: (1 + count) * target, target }),
    ]),
  );
}

async function measureEdit(
  { files }: Opening,
  measure: (edit: EditOptions) => Promise<EditTimes>,
): Promise<EditResult> {
  const times = await measure({ files, device: place, size: sizes.edit, folder: work });
  const peakBytes = memory.peak();
  return { ...times, ...(peakBytes === undefined ? {} : { peakBytes }) };
}

async function measurePyTorch(
  { files }: Opening,
  results: readonly Dump[],
  limits: { seconds: number; matrix: number },
): Promise<void> {
  if (results.length === 0) throw new Error("nothing to compare with");
  const peer = rehearse ? "cpu" : "cuda";
  const python = findPython(peer);
  if ("missing" in python) throw new Error(`no PyTorch, ${python.missing}; QEDIT_BENCH_PYTHON names a Python with it`);
  const request = { device: peer, files, results, compile: !rehearse, ...limits } as const;
  await runPyTorch(python.command, request, async (add) => {
    report.pytorch = add(report.pytorch ?? { versions: {}, runs: [], errors: [], notes: [] });
    await saveReport(json, report);
  });
}
