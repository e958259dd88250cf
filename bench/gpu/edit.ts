// A whole edit as a user starts it: a process of its own, timed from its start to the picture on disk.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repositoryRoot, type ModelFiles } from "./files.js";
import type { EditResult } from "./results.js";

/** What an edit is made with. */
export interface EditOptions {
  readonly files: ModelFiles;
  readonly device: string;
  /** How large the result is, as options of `qedit run`. */
  readonly size: readonly string[];
  readonly folder: string;
  readonly name: string;
}

/** Runs `qedit run` with four steps and one picture; throws with what it said when it fails. */
export async function timeEdit({ files, device, size, folder, name }: EditOptions): Promise<Omit<EditResult, "peakBytes">> {
  const root = repositoryRoot();
  const [picture, events] = [join(folder, `${name}.png`), join(folder, `${name}.ndjson`)];
  const args = [
    join(root, "bin/qedit.js"), "run", join(root, "fixtures/images/cat.jpg"), "-p", "make it black and white", "--steps", "4", "--cfg", "1", ...size,
    "--vae", files.vae, "--text-encoder", files.textEncoder, "--transformer", files.transformer, "--device", device,
    "--no-cache", "--events", events, "-o", picture, "--force",
  ];
  const start = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [code] = (await once(child, "close")) as [number | null];
  const seconds = (performance.now() - start) / 1000;
  if (code !== 0 || !existsSync(picture)) throw new Error(`qedit run ended with ${code}: ${said.trim().split("\n").slice(-3).join(" ")}`);
  return { seconds, ...timesOf(readFileSync(events, "utf8").trim().split("\n").map((line) => JSON.parse(line) as LoggedEvent)) };
}

/** A line of `--events`, as far as it is read here. */
interface LoggedEvent {
  readonly event: string;
  readonly stage?: string;
  readonly step?: number;
  readonly seconds?: number;
}

function timesOf(events: readonly LoggedEvent[]): Pick<EditResult, "stages" | "steps"> {
  const stages = events.flatMap(({ event, stage, seconds }) => (event === "end" ? [[stage!, seconds!] as const] : []));
  const steps = events.flatMap(({ event, step, seconds }) => (event === "step" && step! > 0 ? [seconds!] : []));
  if (stages.length === 0 || steps.length === 0) throw new Error("internal: the events of the edit tell no times");
  return { stages: Object.fromEntries(stages), steps };
}
