// Times whole edits: one in its own process, from its start to the picture on disk; and several in one process, where all networks are open from
// the second on. Every picture is a different file, so that nothing but the modulation vectors comes from a cache.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { appendFile, copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { median } from "../report.js";
import { type ModelFiles, repositoryRoot } from "./files.js";
import type { EditResult } from "./results.js";

/** Options of an edit. */
export interface EditOptions {
  readonly files: ModelFiles;
  readonly device: string;
  /** Size of the result, as options of `qedit run`. */
  readonly size: readonly string[];
  /** Folder for pictures, events and caches. */
  readonly folder: string;
}

/** Times of an edit, without its memory. */
export type EditTimes = Omit<EditResult, "peakBytes">;

const PROMPT = "make it black and white";
/** Number of edits in one process; all but the first are timed. */
const WARM_EDITS = 4;

/** Runs `qedit run` with four steps and one picture; throws with its stderr if it fails. */
export async function timeEdit(options: EditOptions, name: string): Promise<EditTimes> {
  const { folder } = options;
  const result = join(folder, `${name}.png`);
  const input = await pictureFile(folder, name);
  const start = performance.now();
  const events = await qedit(["run", input, "-p", PROMPT, "-o", result], options, name);
  const seconds = (performance.now() - start) / 1000;
  if (!existsSync(result)) throw new Error(`qedit run wrote no ${name}.png`);
  return { seconds, ...timesOf(events) };
}

/** Runs `qedit batch` and returns the medians of the edits after the first; throws if the networks were not open then. */
export async function timeWarmEdits(options: EditOptions): Promise<EditTimes> {
  const { folder } = options;
  const jobs = await Promise.all(
    Array.from({ length: WARM_EDITS }, async (_, index) => ({
      images: [await pictureFile(folder, `warm-${index}`)],
      prompt: PROMPT,
      output: join(folder, `warm-${index}-edit.png`),
    })),
  );
  const file = join(folder, "jobs.jsonl");
  await writeFile(file, jobs.map((job) => `${JSON.stringify(job)}\n`).join(""));
  const events = await qedit(["batch", file], options, "warm");
  const ends = events.filter(({ event, state }) => event === "job" && state === "done");
  const later = events.slice(events.indexOf(ends[0]!) + 1);
  if (ends.length < WARM_EDITS || later.some(({ event, action }) => event === "session" && action === "opened")) {
    throw new Error("the networks do not fit beside each other here, so that no edit finds all of them open");
  }
  const seconds = ends.slice(1).map(({ elapsed }, index) => elapsed - ends[index]!.elapsed);
  return { seconds: median(seconds), ...timesOf(later) };
}

// Bytes after the end of a JPEG are ignored, but change the file's hash.
async function pictureFile(folder: string, name: string): Promise<string> {
  const path = join(folder, `${name}.jpg`);
  await copyFile(join(repositoryRoot(), "fixtures/images/cat.jpg"), path);
  await appendFile(path, name);
  return path;
}

/** The fields of a line of `--events` that are used here. */
interface LoggedEvent {
  readonly event: string;
  readonly elapsed: number;
  readonly stage?: string;
  readonly state?: string;
  readonly action?: string;
  readonly step?: number;
  readonly seconds?: number;
}

async function qedit(
  command: readonly string[],
  { files, device, size, folder }: EditOptions,
  name: string,
): Promise<readonly LoggedEvent[]> {
  const events = join(folder, `${name}.ndjson`);
  const args = [
    join(repositoryRoot(), "bin/qedit.js"),
    ...command,
    "--steps",
    "4",
    "--cfg",
    "1",
    ...size,
    "--vae",
    files.vae,
    "--text-encoder",
    files.textEncoder,
    "--transformer",
    files.transformer,
    "--device",
    device,
    "--events",
    events,
    "--force",
  ];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache"), XDG_STATE_HOME: join(folder, "state") },
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0)
    throw new Error(`qedit ${command[0]} ended with ${code}: ${said.trim().split("\n").slice(-3).join(" ")}`);
  return readFileSync(events, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LoggedEvent);
}

// The medians of several edits.
function timesOf(events: readonly LoggedEvent[]): Pick<EditResult, "stages" | "steps"> {
  const stages = new Map<string, number[]>();
  for (const { event, stage, seconds } of events)
    if (event === "end") stages.set(stage!, [...(stages.get(stage!) ?? []), seconds!]);
  const steps = events.flatMap(({ event, step, seconds }) => (event === "step" && step! > 0 ? [seconds!] : []));
  if (stages.size === 0 || steps.length === 0) throw new Error("internal: the events of the edit have no times");
  return { stages: Object.fromEntries([...stages].map(([stage, all]) => [stage, median(all)])), steps };
}
