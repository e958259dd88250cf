// Real processes of the command line over dist, with the tiny models, in folders of their own.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect } from "vitest";
import { fixture } from "../support/golden.js";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));

/** The tiny model files by the option that names each. */
export const FILES = {
  "--vae": fixture("tiny/vae.safetensors"),
  "--text-encoder": fixture("tiny/text-encoder.safetensors"),
  "--transformer": fixture("tiny/transformer.safetensors"),
};

/** Options that name model files, with some of them exchanged. */
export function models(changed: Partial<typeof FILES> = {}, roles: readonly (keyof typeof FILES)[] = ["--vae", "--text-encoder", "--transformer"]): string[] {
  return roles.flatMap((role) => [role, changed[role] ?? FILES[role]]);
}

/** Small and quick; one thread, for several processes run at a time. */
export const QUICK = ["--device", "cpu", "--threads", "1"];

/** The photographs: landscape 451x300, upright 240x427. */
export const CAT = fixture("images/cat.jpg");
export const ROCKET = fixture("images/rocket.jpg");

/** A small LoRA that fits the tiny transformer. */
export const LORA = fixture("tiny/loras/published.safetensors");

/** How a process ended, and what it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where and how to run. */
export interface Surroundings {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Options of node itself. */
  readonly node?: readonly string[];
  /** Called when the process runs. */
  readonly started?: (child: ChildProcess) => void;
}

/** Runs qedit to its end; it finds no models but those it is given. */
export function qedit(args: readonly string[], { cwd, env = {}, node = [], started }: Surroundings): Promise<Ended> {
  const inherited = { PATH: process.env["PATH"], HOME: cwd, XDG_DATA_HOME: join(cwd, "no-data") };
  const child = spawn(process.execPath, [...node, BIN, ...args], { cwd, env: { ...inherited, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const text = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) child[stream].setEncoding("utf8").on("data", (part: string) => (text[stream] += part));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...text }));
    started?.(child);
  });
}

/** Makes a folder that goes when the tests of this file are done; gives paths in it. */
export function workFolder(): { readonly path: string; readonly at: (name: string) => string; readonly names: () => string[] } {
  const path = mkdtempSync(join(tmpdir(), "qedit-cli-"));
  afterAll(() => rm(path, { recursive: true, force: true }));
  return { path, at: (name) => join(path, name), names: () => readdirSync(path, { recursive: true, encoding: "utf8" }).sort() };
}

/** Holds a failure to its form: the exit code, nothing on stdout, `error: …` and `  hint: …` as the last lines, and no stack. */
export function expectRefusal(ended: Ended, { code, message, hint }: { code: number; message: string | RegExp; hint?: string | RegExp }): void {
  const lines = ended.stderr.trimEnd().split("\n");
  const index = lines.findLastIndex((line) => line.startsWith("error: "));
  const shown = JSON.stringify(ended.stderr);
  expect(ended.code, shown).toBe(code);
  expect(ended.stdout).toBe("");
  expect(lines[index] ?? "", shown).toMatch(message);
  expect(lines.slice(index + 1).map((line) => line.slice(0, 8)), shown).toEqual(hint === undefined ? expect.toBeOneOf([[], ["  hint: "]]) : ["  hint: "]);
  if (hint !== undefined) expect(lines.at(-1), shown).toMatch(hint);
  expect(ended.stderr).not.toMatch(/^\s+at /m);
  expect(ended.stderr).not.toContain("internal:");
}
