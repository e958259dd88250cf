// What `qedit plan` expects of memory on the CPU, and what the process of `qedit run` takes, stage by stage. Linux only; dist is run.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { EditPlan } from "../src/edit/plan/edit-plan.js";
import { photograph, twoLayers } from "./two-layers.js";

const QEDIT = fileURLToPath(new URL("../bin/qedit.js", import.meta.url));

/** Milliseconds between two looks at the memory of a process. */
const PERIOD = 10;

/** Bytes of a stage at its peak. `ram` is anonymous memory and the programs' mapped files, some 0.07 GB; `mapped` is weights that are read in place. */
export interface StageMemory {
  readonly ram: number;
  readonly mapped: number;
}

/** A stage of one edit. */
export interface StageComparison {
  readonly form: string;
  readonly side: number;
  readonly stage: string;
  readonly planned: StageMemory;
  readonly measured: StageMemory;
  /** Of both together, planned over measured. */
  readonly ratio: number;
}

/** Makes an edit of a picture of side² with model files in a form of FORMS, in `folder`, and gives what was planned and taken. */
export async function comparedStages(folder: string, form: string, side: number): Promise<StageComparison[]> {
  const { files, settings } = await twoLayers(folder, form);
  const picture = await photograph(join(folder, `${side}.bmp`), side);
  const edit = [picture, "-p", "make it winter", ...files, "--size", `${side}x${side}`];
  const args = [...edit, "--steps", "2", "--cfg", "1", "--device", "cpu", ...settings];
  const environment = { ...process.env, QEDIT_HOME: join(folder, "home") };
  const plan = JSON.parse(await printed(["plan", ...args, "--json"], environment)) as EditPlan;
  const measured = await measuredStages(args, { folder, environment });
  return plan.stages.map(({ stage, memory: { ram, mapped } }) => {
    const taken = measured.get(stage)!;
    const ratio = (ram + mapped) / (taken.ram + taken.mapped);
    return { form, side, stage, planned: { ram, mapped }, measured: taken, ratio };
  });
}

async function printed(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(process.execPath, [QEDIT, ...args], { stdio: ["ignore", "pipe", "inherit"], env });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  await ended(child);
  return Buffer.concat(chunks).toString();
}

// The most that the process took in each stage: one look every few milliseconds, given to stages by the times of their events.
async function measuredStages(
  edit: readonly string[],
  { folder, environment }: { folder: string; environment: NodeJS.ProcessEnv },
): Promise<ReadonlyMap<string, StageMemory>> {
  const events = join(folder, "events.ndjson");
  const args = ["run", ...edit, "--no-cache", "--force", "--events", events, "-o", join(folder, "out.png")];
  const child = spawn(process.execPath, [QEDIT, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    env: environment,
  });
  const looks: (StageMemory & { readonly at: number })[] = [];
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

function bytesOf(status: string, name: string): number {
  return Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024;
}
