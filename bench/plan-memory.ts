// What `qedit plan` expects of memory on the CPU against what the process of `qedit run` takes, stage by stage: the published widths, two blocks of the
// transformer in several types, two layers of the text encoder, the whole VAE. Linux only; `npm run build` first.
// npx tsx bench/plan-memory.ts [--form fp8]… [--side 512]… [--json FILE]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { EditPlan } from "../src/edit/plan/edit-plan.js";
import { machineFacts, now } from "./report.js";
import { FORMS, photograph, twoLayers } from "./two-layers.js";

const { values: options } = parseArgs({
  options: {
    form: { type: "string", multiple: true, default: Object.keys(FORMS) },
    side: { type: "string", multiple: true, default: ["512", "1024"] },
    json: { type: "string", default: fileURLToPath(new URL("results/plan-memory.json", import.meta.url)) },
  },
});

const QEDIT = fileURLToPath(new URL("../bin/qedit.js", import.meta.url));

/** Milliseconds between two looks at the memory of a process. */
const PERIOD = 10;

/** Bytes of a stage. Programs, some 0.07 GB that are mapped, count with `ram`. */
interface Memory {
  readonly ram: number;
  readonly mapped: number;
}

interface Row {
  readonly form: string;
  readonly side: number;
  readonly stage: string;
  readonly planned: Memory;
  readonly measured: Memory;
  /** Of both together, planned over measured. */
  readonly ratio: number;
}

const folder = await mkdtemp(join(tmpdir(), "qedit-plan-memory-"));
try {
  const rows: Row[] = [];
  for (const form of options.form) {
    const { files, settings } = await twoLayers(folder, form);
    for (const side of options.side.map(Number)) {
      const picture = await photograph(join(folder, `${side}.bmp`), side);
      const edit = [picture, "-p", "make it winter", ...files, ...settings, "--size", `${side}x${side}`];
      const made = await compared(form, side, [...edit, "--steps", "2", "--cfg", "1", "--device", "cpu"]);
      rows.push(...made);
      console.table(made.map(shown));
    }
  }
  await writeFile(options.json, `${JSON.stringify({ machine: machineFacts(), date: now(), rows }, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true });
}

async function compared(form: string, side: number, edit: readonly string[]): Promise<Row[]> {
  const plan = JSON.parse(await printed(["plan", ...edit, "--json"])) as EditPlan;
  const measured = await measuredStages(edit);
  return plan.stages.map(({ stage, memory: { ram, mapped } }) => {
    const taken = measured.get(stage)!;
    const ratio = (ram + mapped) / (taken.ram + taken.mapped);
    return { form, side, stage, planned: { ram, mapped }, measured: taken, ratio };
  });
}

async function printed(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [QEDIT, ...args], { stdio: ["ignore", "pipe", "inherit"], env: environment() });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  await ended(child);
  return Buffer.concat(chunks).toString();
}

// The most that the process took in each stage: one look every few milliseconds, given to stages by the times of their events.
async function measuredStages(edit: readonly string[]): Promise<ReadonlyMap<string, Memory>> {
  const events = join(folder, "events.ndjson");
  const args = ["run", ...edit, "--no-cache", "--force", "--events", events, "-o", join(folder, "out.png")];
  const child = spawn(process.execPath, [QEDIT, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    env: environment(),
  });
  const looks: (Memory & { readonly at: number })[] = [];
  const timer = setInterval(() => {
    readFile(`/proc/${child.pid}/status`, "utf8").then(
      (status) => looks.push({ at: Date.now(), ram: bytesOf(status, "RssAnon"), mapped: bytesOf(status, "RssFile") }),
      () => {},
    );
  }, PERIOD);
  await ended(child).finally(() => clearInterval(timer));
  const marks = (await readFile(events, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string; stage?: string; time: string });
  const times = (event: string) => marks.filter((mark) => mark.event === event && mark.stage !== undefined);
  const ends = new Map(times("end").map(({ stage, time }) => [stage, Date.parse(time)]));
  const programs = looks.find(({ at }) => at >= Date.parse(times("start")[0]!.time))!.mapped;
  return new Map(
    times("start").map(({ stage, time }) => {
      const during = looks.filter(({ at }) => at >= Date.parse(time) && at <= ends.get(stage)!);
      const most = during.reduce((largest, look) =>
        look.ram + look.mapped > largest.ram + largest.mapped ? look : largest,
      );
      return [stage!, { ram: most.ram + programs, mapped: Math.max(most.mapped - programs, 0) }] as const;
    }),
  );
}

async function ended(child: ReturnType<typeof spawn>): Promise<void> {
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`qedit ended with ${code}`);
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, QEDIT_HOME: join(folder, "home") };
}

function bytesOf(status: string, name: string): number {
  return Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024;
}

function shown({ form, side, stage, planned, measured, ratio }: Row): Record<string, string> {
  const gigabytes = ({ ram, mapped }: Memory) => `${(ram / 1e9).toFixed(2)} + ${(mapped / 1e9).toFixed(2)}`;
  return {
    form,
    side: `${side}²`,
    stage,
    "planned GB": gigabytes(planned),
    "measured GB": gigabytes(measured),
    ratio: ratio.toFixed(3),
  };
}
