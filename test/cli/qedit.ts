// The command line with the tiny models, in folders of its own: in this process over src, or as a real process over dist.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { spawn as spawnTerminal } from "@lydell/node-pty";
import { afterAll, expect } from "vitest";
import { main } from "../../src/cli/main.js";
import { cacheFolder } from "../support/caches.js";
import { fixture } from "../support/golden.js";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));

/** The tiny model files by the option that names each. */
export const FILES = {
  "--vae": fixture("tiny/vae.safetensors"),
  "--text-encoder": fixture("tiny/text-encoder.safetensors"),
  "--transformer": fixture("tiny/transformer.safetensors"),
};

/** Options that name model files, with some of them exchanged. */
export function models(
  changed: Partial<typeof FILES> = {},
  roles: readonly (keyof typeof FILES)[] = ["--vae", "--text-encoder", "--transformer"],
): string[] {
  return roles.flatMap((role) => [role, changed[role] ?? FILES[role]]);
}

/** Small and quick; one thread, for several processes run at a time. */
export const QUICK = ["--device", "cpu", "--threads", "1"];

/** The photographs: landscape 451x300, upright 240x427. */
export const CAT = fixture("images/cat.jpg");
export const ROCKET = fixture("images/rocket.jpg");

/** A small LoRA that fits the tiny transformer. */
export const LORA = fixture("tiny/loras/published.safetensors");

/** How a call or a process ended, and what it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  /** stdout as it came, for pictures and tensors. */
  readonly bytes: Buffer;
  readonly stderr: string;
}

/** Where and how to run. */
export interface Surroundings {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What stands on stdin; nothing unless given. */
  readonly input?: Uint8Array;
}

/** Where and how to run a process. */
export interface ProcessSurroundings extends Surroundings {
  /** Options of node itself. */
  readonly node?: readonly string[];
  /** Called when the process runs. */
  readonly started?: (child: ChildProcess) => void;
}

// The environment and the working folder belong to the whole process.
let lastCall: Promise<unknown> = Promise.resolve();

/** Calls qedit in this process, after the calls before it; it finds no models but those it is given. */
export function qedit(args: readonly string[], surroundings: Surroundings): Promise<Ended> {
  const ended = lastCall.then(() => call(args, surroundings));
  lastCall = ended.catch(() => {
    // Thrown where it is awaited.
  });
  return ended;
}

async function call(args: readonly string[], { cwd, env = {}, input }: Surroundings): Promise<Ended> {
  const [stdout, stderr] = [collected(), collected()];
  const code = await main(args, {
    stdin: Readable.from(input ? [Buffer.from(input)] : [], { objectMode: false }),
    stdout: stdout.stream,
    stderr: stderr.stream,
    env: { ...surroundingsOf(cwd), ...env },
    cwd,
  });
  const bytes = stdout.bytes();
  return { code, signal: null, bytes, stdout: bytes.toString("utf8"), stderr: stderr.bytes().toString("utf8") };
}

function collected(): { readonly stream: Writable; readonly bytes: () => Buffer } {
  const parts: Buffer[] = [];
  const stream = new Writable({
    write(part: Buffer, _encoding, done) {
      parts.push(Buffer.from(part));
      done();
    },
  });
  return { stream, bytes: () => Buffer.concat(parts) };
}

/** Runs qedit as a process of its own to its end: for signals, closed pipes, options of node, several at a time, and dist itself. */
export function spawned(
  args: readonly string[],
  { cwd, env = {}, node = [], input, started }: ProcessSurroundings,
): Promise<Ended> {
  const child = spawn(process.execPath, [...node, BIN, ...args], {
    cwd,
    env: { ...surroundingsOf(cwd), ...env },
    stdio: [input ? "pipe" : "ignore", "pipe", "pipe"],
  });
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  for (const stream of ["stdout", "stderr"] as const)
    child[stream]!.on("data", (part: Buffer) => parts[stream].push(part));
  child.stdin?.end(input);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const [bytes, stderr] = [Buffer.concat(parts.stdout), Buffer.concat(parts.stderr).toString("utf8")];
      resolve({ code, signal, bytes, stdout: bytes.toString("utf8"), stderr });
    });
    started?.(child);
  });
}

/** The environment of a call that finds no models, settings or caches but those in a folder; its cache is its own. */
function surroundingsOf(folder: string): Record<string, string> {
  return {
    PATH: process.env["PATH"]!,
    HOME: folder,
    XDG_DATA_HOME: join(folder, "no-data"),
    // No server of a developer answers there.
    XDG_RUNTIME_DIR: join(folder, "no-runtime"),
    // What one call kept must not spare another one its work, unless a test wants that.
    XDG_CACHE_HOME: cacheFolder(),
    XDG_STATE_HOME: cacheFolder(),
  };
}

/** Runs a line of the shell in which `qedit` is this qedit. */
export async function shell(line: string, cwd: string): Promise<Ended> {
  const child = spawn("sh", ["-c", withQedit(line)], {
    cwd,
    env: surroundingsOf(cwd),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [bytes, stderr] = await Promise.all([buffer(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, signal: child.signalCode, bytes, stdout: bytes.toString("utf8"), stderr };
}

function withQedit(line: string): string {
  return `qedit() { "${process.execPath}" "${BIN}" "$@"; }\n${line}`;
}

/** A qedit in a terminal of its own, which holds what it shows. */
export interface Terminal {
  readonly shown: () => string;
  readonly type: (keys: string) => void;
  readonly ended: Promise<number>;
}

/** Starts qedit in a pseudo-terminal of 100 columns. */
export function inTerminal(args: readonly string[], surroundings: Pick<Surroundings, "cwd" | "env">): Terminal {
  return terminalOf([process.execPath, BIN, ...args], surroundings);
}

/** Runs a line of the shell, in which `qedit` is this qedit, in a pseudo-terminal; it stays open a moment, since what comes right before its end can be lost. */
export function shellInTerminal(line: string, surroundings: Pick<Surroundings, "cwd" | "env">): Terminal {
  return terminalOf(["sh", "-c", `${withQedit(line)}\ncode=$?; sleep 0.3; exit $code`], surroundings);
}

function terminalOf(
  [file, ...args]: readonly [string, ...string[]],
  { cwd, env = {} }: Pick<Surroundings, "cwd" | "env">,
): Terminal {
  let shown = "";
  const process_ = spawnTerminal(file, args, {
    cols: 100,
    rows: 30,
    cwd,
    env: { ...surroundingsOf(cwd), TERM: "xterm-256color", ...env },
  });
  process_.onData((part) => (shown += part));
  return {
    shown: () => shown,
    type: (keys) => process_.write(keys),
    ended: new Promise((resolve) =>
      process_.onExit(({ exitCode, signal }) => resolve(signal ? 128 + signal : exitCode)),
    ),
  };
}

/** Makes a folder that goes when the tests of this file are done; gives paths in it. */
export function workFolder(): {
  readonly path: string;
  readonly at: (name: string) => string;
  readonly names: () => string[];
} {
  const path = mkdtempSync(join(tmpdir(), "qedit-cli-"));
  afterAll(() => rm(path, { recursive: true, force: true }));
  return {
    path,
    at: (name) => join(path, name),
    names: () => readdirSync(path, { recursive: true, encoding: "utf8" }).sort(),
  };
}

/** Holds a failure to its form: the exit code, nothing on stdout but the error as JSON, `error: …` and `  hint: …` as the last lines, and no stack. */
export function expectRefusal(
  ended: Ended,
  { code, message, hint }: { code: number; message: string | RegExp; hint?: string | RegExp },
): void {
  const lines = ended.stderr.trimEnd().split("\n");
  const index = lines.findLastIndex((line) => line.startsWith("error: "));
  const shown = JSON.stringify(ended.stderr);
  expect(ended.code, shown).toBe(code);
  // With --json the error is the one object there.
  if (ended.stdout !== "") expect(JSON.parse(ended.stdout)).toEqual({ error: expect.objectContaining({ exit: code }) });
  expect(lines[index] ?? "", shown).toMatch(message);
  expect(
    lines.slice(index + 1).map((line) => line.slice(0, 8)),
    shown,
  ).toEqual(hint === undefined ? expect.toBeOneOf([[], ["  hint: "]]) : ["  hint: "]);
  if (hint !== undefined) expect(lines.at(-1), shown).toMatch(hint);
  expect(ended.stderr).not.toMatch(/^\s+at /m);
  expect(ended.stderr).not.toContain("internal:");
}
