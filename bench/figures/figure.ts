// What is measured beside a peer in the same run, against a goal and against what was committed.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { type Machine, median } from "../report.js";

/** One measured figure. Less is better. */
export interface Figure {
  readonly name: string;
  readonly unit: "s" | "ms" | "MB" | "ns";
  readonly qedit: number;
  /** The same work of another program in the same run, the two taking turns. */
  readonly peer?: { readonly name: string; readonly value: number };
  /** Most that qedit may take: as a part of what the peer takes, or in the unit. */
  readonly goal?: { readonly ratio: number } | { readonly value: number };
}

/** Measures some figures. */
export interface Part {
  readonly what: string;
  readonly measure: (context: PartContext) => Promise<readonly Figure[]>;
}

/** What parts need. */
export interface PartContext {
  /** A Python with torch, diffusers, transformers, numpy and pillow; undefined: without peers in Python. */
  readonly python: string | undefined;
  /** A folder for large files. */
  readonly folder: string;
}

/** A file of figures. */
interface Figures {
  readonly machine: Machine;
  readonly figures: readonly Figure[];
}

/** Figures that are more than so many times their baseline are named. */
const WORSE = 1.25;

/** Runs sides in turns, and gives the median of each; the first run of each is left out. */
export async function inTurns(sides: readonly (() => number | Promise<number>)[], rounds: number): Promise<number[]> {
  const all = sides.map((): number[] => []);
  for (let round = 0; round <= rounds; round += 1)
    for (const [index, side] of sides.entries()) {
      const value = await side();
      if (round > 0) all[index]!.push(value);
    }
  return all.map(median);
}

/** Seconds of the processor that `work` takes in this process, all threads together. */
export async function processorSeconds(work: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** The figures of a file, none if there is no such file. */
export function readFigures(path: string): Figures | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Figures) : undefined;
}

/** Writes figures, in place of those of the same names; versions of peers that did not take part stay. */
export function updateFigures(path: string, { machine, figures }: Figures): void {
  const earlier = readFigures(path);
  const byName = new Map([...(earlier?.figures ?? []), ...figures].map((figure) => [figure.name, figure]));
  const report = { machine: { ...earlier?.machine, ...machine }, figures: [...byName.values()] };
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
}

/** qedit's part of what the peer takes. */
function ratioOf({ qedit, peer }: Figure): number | undefined {
  return peer && qedit / peer.value;
}

/** Whether a figure meets its goal; undefined where it has none, or no peer for it. */
export function meetsGoal(figure: Figure): boolean | undefined {
  const { goal, qedit } = figure;
  if (goal === undefined) return undefined;
  if ("value" in goal) return qedit <= goal.value;
  const ratio = ratioOf(figure);
  return ratio === undefined ? undefined : ratio <= goal.ratio;
}

/**
 * How many times its baseline a figure is: by their ratios to the peer, which other machines share; without a peer by their values, where the machine is
 * the same. undefined: nothing to compare with.
 */
export function changeOf(figure: Figure, baseline: Figures | undefined, machine: Machine): number | undefined {
  const earlier = baseline?.figures.find(({ name }) => name === figure.name);
  if (baseline === undefined || earlier === undefined) return undefined;
  const [now, then] = [ratioOf(figure), ratioOf(earlier)];
  if (now !== undefined && then !== undefined) return now / then;
  const isSame = machine.cpu === baseline.machine.cpu && machine.cores === baseline.machine.cores;
  return isSame ? figure.qedit / earlier.qedit : undefined;
}

/** The figures that are much worse than their baseline. */
export function worseFigures(figures: readonly Figure[], baseline: Figures | undefined, machine: Machine): Figure[] {
  return figures.filter((figure) => (changeOf(figure, baseline, machine) ?? 0) > WORSE);
}

const COLUMNS = ["figure", "qedit", "peer", "peer takes", "ratio", "goal", "holds", "of baseline"];

/** Figures as a Markdown table. */
export function figureTable(figures: readonly Figure[], baseline: Figures | undefined, machine: Machine): string {
  const rows = [COLUMNS, COLUMNS.map((_, index) => (index === 0 || index === 2 ? "---" : "---:"))];
  for (const figure of figures) {
    const { name, qedit, peer, goal } = figure;
    const holds = meetsGoal(figure);
    rows.push([
      name,
      withUnit(qedit, figure),
      peer?.name ?? "",
      peer ? withUnit(peer.value, figure) : "",
      ratioOf(figure)?.toFixed(2) ?? "",
      goal === undefined ? "" : "ratio" in goal ? goal.ratio.toFixed(2) : withUnit(goal.value, figure),
      holds === undefined ? "" : holds ? "yes" : "no",
      changeOf(figure, baseline, machine)?.toFixed(2) ?? "",
    ]);
  }
  return rows.map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function withUnit(value: number, { unit }: Pick<Figure, "unit">): string {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(value < 100 ? 1 : 0)} ${unit}`;
}
