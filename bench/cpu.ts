// Speed and memory of the networks on the CPU, beside PyTorch float32 where a Python with torch, diffusers and transformers
// is found (QEDIT_BENCH_PYTHON, else python3). Both sides are open at once and take turns, so that changes in
// the machine's speed affect both. npx tsx bench/cpu.ts [--only NAME]… [--json FILE]: with --only, the other results of the file stay.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sparseCheckpoint } from "../fixtures/headers/sparse.js";
import { FILES, NETWORKS } from "./networks.js";
import { type Answers, type Peer, startPeer } from "./peer.js";
import { randomCheckpoint } from "./random-checkpoint.js";
import { machineFacts, median, now, type Result, type Runs, resultTable, withEarlier } from "./report.js";

/** Runs after the first: at least this many, and more while a network has taken less than the seconds below. */
const LEAST_RUNS = 2;
const MOST_RUNS = 15;
const ENOUGH_SECONDS = 60;
/** Number of processes, one after another, that open a network that is only opened. */
const OPENINGS = 5;
/** Pause between the sides: threads of ONNX Runtime and PyTorch spin for a moment after a run. */
const PAUSE_MILLISECONDS = 300;

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const threads = String(availableParallelism());

const { values: options } = parseArgs({
  options: { only: { type: "string", multiple: true }, json: { type: "string" } },
});
const names = options.only ?? Object.keys(NETWORKS);
const json = options.json ?? here("results/cpu.json");
const unknown = names.find((name) => !NETWORKS[name]);
if (unknown !== undefined)
  throw new Error(`Cannot measure "${unknown}": ${Object.keys(NETWORKS).join(", ")} are known`);

const python = findPython();
const folder = await mkdtemp(join(tmpdir(), "qedit-bench-"));
const written = new Map<string, string>();
try {
  const results: Result[] = [];
  for (const name of names) {
    process.stderr.write(`${name}\n`);
    results.push(await measure(name, await benchFile(NETWORKS[name]!.file)));
  }
  const report = withEarlier({ machine: { ...machineFacts(), ...python?.versions }, results }, json);
  await writeFile(json, `${JSON.stringify(report, null, 2)}\n`);
  console.log(resultTable(report.results));
} finally {
  await rm(folder, { recursive: true });
}

interface Python {
  readonly command: string;
  readonly versions: Readonly<Record<string, string>>;
}

function findPython(): Python | undefined {
  const command = process.env["QEDIT_BENCH_PYTHON"] ?? "python3";
  const program =
    "import json, torch, diffusers, transformers as t; print(json.dumps(dict(torch=torch.__version__, diffusers=diffusers.__version__, transformers=t.__version__)))";
  const { status, stdout } = spawnSync(command, ["-c", program], { encoding: "utf8" });
  if (status === 0) return { command, versions: JSON.parse(stdout) };
  process.stderr.write(
    "Without PyTorch: set QEDIT_BENCH_PYTHON to a Python with torch, diffusers and transformers to compare\n",
  );
  return undefined;
}

async function benchFile(name: keyof typeof FILES): Promise<string> {
  const path = written.get(name) ?? join(folder, `${name}.safetensors`);
  if (!written.has(name)) {
    const { tensors, metadata, content } = FILES[name];
    await (content === "sparse" ? sparseCheckpoint : randomCheckpoint)(path, tensors(), metadata);
    written.set(name, path);
  }
  return path;
}

async function measure(name: string, file: string): Promise<Result> {
  const start = () => startPeer(process.execPath, ["--import", "tsx", here("qedit.ts"), name, file, threads]);
  return NETWORKS[name]!.feeds ? measureRuns(name, start) : measureOpenings(name, start);
}

async function measureOpenings(network: string, start: () => Peer): Promise<Result> {
  const openings: (Answers["open"] & { peakBytes: number })[] = [];
  for (let index = 0; index < OPENINGS; index += 1) {
    await using peer = start();
    openings.push({ ...(await peer.ask("open")), peakBytes: (await peer.ask("peak")).bytes });
  }
  const middle = (fact: "graph" | "session" | "peakBytes") => median(openings.map((opening) => opening[fact]));
  return {
    network,
    date: now(),
    ...openings[0]!,
    graph: middle("graph"),
    session: middle("session"),
    peakBytes: middle("peakBytes"),
  };
}

async function measureRuns(network: string, start: () => Peer): Promise<Result> {
  await using ours = start();
  const opened = await ours.ask("open");
  await using theirs = python && startPeer(python.command, [here("pytorch.py"), network, threads]);
  await theirs?.ask("open");
  const sides = [ours, ...(theirs ? [theirs] : [])];
  const runs = sides.map((): Answers["run"][] => []);
  const begin = performance.now();
  for (let run = 0; run <= MOST_RUNS; run += 1) {
    if (run > LEAST_RUNS && performance.now() - begin > ENOUGH_SECONDS * 1000) break;
    for (const [index, side] of sides.entries()) {
      runs[index]!.push(await side.ask("run"));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    }
  }
  const [qedit, pytorch] = await Promise.all(sides.map((side, index) => runsOf(runs[index]!, side)));
  const comparison = pytorch
    ? { pytorch, ratio: qedit!.median / pytorch.median, processorRatio: qedit!.processor / pytorch.processor }
    : {};
  return { network, date: now(), ...opened, peakBytes: qedit!.peakBytes, qedit: qedit!, ...comparison };
}

async function runsOf(runs: readonly Answers["run"][], side: Peer): Promise<Runs> {
  const all = runs.map(({ seconds }) => seconds);
  const processor = median(runs.slice(1).map((run) => run.processor));
  return { first: all[0]!, median: median(all.slice(1)), processor, all, peakBytes: (await side.ask("peak")).bytes };
}
