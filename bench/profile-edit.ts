// npm run bench:profile [-- --rounds N --threads N]: the processor time of the smallest edit by part, as a table. Linux only.
// Times are of threads, the median of some runs; parts of a thread are its samples under --cpu-prof, in runs of their own, since sampling costs time.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { QEDIT } from "./figures/node-usage.js";
import { ENGINE_PARTS, MAIN_PARTS, type PartRule, type Profile, sharesOf } from "./profile/profile-parts.js";
import { type MeasuredProcess, measureProcess, type ThreadKind } from "./profile/thread-times.js";
import { unbundled } from "./profile/unbundled.js";
import { machineFacts, median, now } from "./report.js";

const CAT = fileURLToPath(new URL("../fixtures/images/cat.jpg", import.meta.url));

/** Parts of less time are not shown one by one. */
const LEAST_SECONDS = 0.005;

if (process.platform !== "linux")
  throw new Error("Cannot measure threads here: their times are read from Linux's /proc");
const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, threads: { type: "string" } },
});
const rounds = Number(options.rounds);
const folder = mkdtempSync(join(tmpdir(), "qedit-bench-profile-"));
try {
  const edit = [
    ...[QEDIT, "run", CAT, "-p", "make it sepia", "--model", "tiny"],
    ...(options.threads === undefined ? [] : ["--threads", options.threads]),
    ...["--no-cache", "--force", "--quiet", "-o", join(folder, "out.png")],
  ];
  const runs: MeasuredProcess[] = [];
  const shares = { main: [] as Shares[], engine: [] as Shares[] };
  for (let round = 0; round < rounds; round += 1) {
    runs.push(await measureProcess(edit));
    const profiles = await profiled(edit, join(folder, `profile-${round}`));
    shares.main.push(sharesOf(profiles.main, MAIN_PARTS));
    shares.engine.push(sharesOf(profiles.engine, ENGINE_PARTS));
  }
  const seconds = (kind: ThreadKind) => median(runs.map(({ threads }) => threads[kind]));
  const engine = partRows("engine's thread", seconds("engine"), { shares: shares.engine, rules: ENGINE_PARTS });
  const rows = [
    ...engine,
    ["ONNX Runtime's threads beside it, computing and waiting", seconds("pool")] as const,
    ...partRows("main thread", seconds("main"), { shares: shares.main, rules: MAIN_PARTS }),
    ["V8's threads: compiling, collecting garbage", seconds("v8")] as const,
    ["threads for files and PNG", seconds("files")] as const,
  ];
  const total = sum(rows);
  const networks = seconds("pool") + sum(engine.filter(([part]) => part.endsWith("networks")));
  const { cpu, cores, node, onnxruntime } = machineFacts();
  console.log(table([...rows, ["all", total]], total));
  console.log(
    `\nNetworks: ${percent(networks, total)} of the processor time. Resident: ${(median(runs.map(({ resident }) => resident)) / 1e6).toFixed(0)} MB.`,
  );
  console.log(
    `Medians of ${rounds} runs. ${cpu}, ${cores} cores; Node ${node.slice(1)}, onnxruntime-node ${onnxruntime}; ${now().slice(0, 10)}.`,
  );
} finally {
  rmSync(folder, { recursive: true });
}

type Shares = ReadonlyMap<string, number>;
type Row = readonly [part: string, seconds: number];

async function profiled(edit: readonly string[], into: string): Promise<{ main: Profile; engine: Profile }> {
  await measureProcess(["--cpu-prof", "--cpu-prof-interval", "200", "--cpu-prof-dir", into, ...edit]);
  // CPU.DATE.TIME.PROCESS.THREAD.NUMBER.cpuprofile; the main thread is 0.
  const read = (thread: string) => {
    const name = readdirSync(into).find((each) => each.split(".")[4] === thread);
    if (name === undefined) throw new Error(`internal: no profile of thread ${thread}`);
    return unbundled(JSON.parse(readFileSync(join(into, name), "utf8")) as Profile);
  };
  return { main: read("0"), engine: read("1") };
}

// The parts of a thread, the largest first, small ones together.
function partRows(
  thread: string,
  seconds: number,
  { shares, rules }: { shares: readonly Shares[]; rules: readonly PartRule[] },
): Row[] {
  const parts = rules.map(([part]): Row => [part, seconds * median(shares.map((each) => each.get(part) ?? 0))]);
  const shown = parts.filter(([, time]) => time >= LEAST_SECONDS).sort((a, b) => b[1] - a[1]);
  const rest = seconds - sum(shown);
  return [...shown, ["the rest", rest] as const].map(([part, time]) => [`${thread}: ${part}`, time]);
}

function sum(rows: readonly Row[]): number {
  return rows.reduce((total, [, seconds]) => total + seconds, 0);
}

function table(rows: readonly Row[], total: number): string {
  const cells = [
    ["part", "processor time", "share"],
    ...rows.map(([part, time]) => [part, `${time.toFixed(2)} s`, percent(time, total)]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...cells.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join(" | ")} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)).join(" | ")} |`;
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)].join("\n");
}

function percent(part: number, total: number): string {
  return `${((100 * part) / total).toFixed(1)} %`;
}
