// Networks on the CPU beside PyTorch float32 where there is a Python for it. Both sides are open at once and take turns, so that changes in the machine's
// speed affect both.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sparseCheckpoint } from "../fixtures/headers/sparse.js";
import { FILES, NETWORKS } from "./networks.js";
import { type Answers, type Peer, startPeer } from "./peer.js";
import { randomCheckpoint } from "./random-checkpoint.js";
import { median, now, type Result, type Runs } from "./report.js";

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

/** A Python with torch, diffusers and transformers, and their versions. */
export interface Python {
  readonly command: string;
  readonly versions: Readonly<Record<string, string>>;
}

/** The Python that QEDIT_BENCH_PYTHON names, else python3; undefined, and a line on stderr, where it lacks the packages. */
export function findPython(): Python | undefined {
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

/** Writes the networks' files into a folder, each once, and measures one network after another. */
export async function measureNetworks(
  names: readonly string[],
  { python, folder }: { readonly python: Pick<Python, "command"> | undefined; readonly folder: string },
): Promise<Result[]> {
  const written = new Map<string, string>();
  const results: Result[] = [];
  for (const name of names) {
    process.stderr.write(`${name}\n`);
    const { file, feeds } = NETWORKS[name]!;
    const path = written.get(file) ?? (await writeFile(file, folder));
    written.set(file, path);
    const start = () => startPeer(process.execPath, ["--import", "tsx", here("qedit.ts"), name, path, threads]);
    results.push(feeds ? await measureRuns(name, start, python?.command) : await measureOpenings(name, start));
  }
  return results;
}

async function writeFile(name: keyof typeof FILES, folder: string): Promise<string> {
  const path = join(folder, `${name}.safetensors`);
  const { tensors, metadata, content } = FILES[name];
  await (content === "sparse" ? sparseCheckpoint : randomCheckpoint)(path, tensors(), metadata);
  return path;
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

async function measureRuns(network: string, start: () => Peer, python: string | undefined): Promise<Result> {
  await using ours = start();
  const opened = await ours.ask("open");
  await using theirs = python === undefined ? undefined : startPeer(python, [here("pytorch.py"), network, threads]);
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
