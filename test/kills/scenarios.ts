// What is killed: one edit, a batch, a download, and edits that fill the cache.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fileBytes, hubServer, sha256Of } from "../catalog/hub-server.js";
import { fixture } from "../support/golden.js";

/** Folders of a round. */
export interface Surroundings {
  readonly folder: string;
  readonly home: string;
  readonly temporary: string;
}

/** A command that is killed, and the one that goes on after it. */
export interface Scenario {
  readonly first: readonly string[];
  readonly again: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly prepare: (at: Surroundings) => void;
  /** Paths of the results that are there. */
  readonly results: (at: Surroundings) => string[];
  /** Names of the results in the end. */
  readonly expected: readonly string[];
  /** The SHA-256 that a result must have; undefined for what is no result. */
  readonly hashOf: (path: string) => string | undefined;
  /** What was done more than once, by the records of the command. */
  readonly twice: (at: Surroundings) => string[];
  readonly close: () => Promise<void>;
}

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
const EDIT = ["--model", "tiny", "--device", "cpu", "--threads", "1", "--megapixels", "0.01", "--quiet"];
const PROMPT = "make it black and white";

/** The scenarios by name. */
export const SCENARIOS: Readonly<Record<string, () => Promise<Scenario>>> = {
  run: async () => edits(["run", "cat.jpg", "-p", PROMPT, ...EDIT, "--no-cache", "-f", "-o", "out.png"], ["out.png"]),
  batch: async () => {
    const names = ["a.png", "b.png", "c.png", "d.png"];
    const args = ["batch", "jobs.jsonl", ...EDIT, "--no-cache"];
    const whole = edits(args, names);
    return { ...whole, again: [...args, "--resume"], twice: ({ home }) => writtenTwice(home) };
  },
  cache: async () => edits(["run", "cat.jpg", "-p", PROMPT, ...EDIT, "-f", "-o", "out.png"], ["out.png"]),
  pull: download,
};

// Commands of the tiny model in a folder with the cat and the jobs.
function edits(args: readonly string[], expected: readonly string[]): Scenario {
  const prepare = ({ folder }: Pick<Surroundings, "folder">) => {
    copyFileSync(fixture("images/cat.jpg"), join(folder, "cat.jpg"));
    const jobs = expected.map((output, seed) => JSON.stringify({ images: ["cat.jpg"], prompt: PROMPT, output, seed }));
    writeFileSync(join(folder, "jobs.jsonl"), jobs.join("\n"));
  };
  const right = new Map<string, string>();
  const folder = mkdtempSync(join(tmpdir(), "qedit-kills-right-"));
  prepare({ folder });
  execFileSync(process.execPath, [BIN, ...args], {
    cwd: folder,
    env: { ...process.env, QEDIT_HOME: join(folder, "home") },
  });
  for (const name of expected) right.set(name, sha256Of(readFileSync(join(folder, name))));
  rmSync(folder, { recursive: true });
  return {
    ...{ first: args, again: args, env: {}, prepare, expected },
    results: (at) => filesBelow(at.folder).filter((path) => right.has(basename(path))),
    hashOf: (path) => right.get(basename(path)),
    twice: () => [],
    close: async () => {},
  };
}

// A file is made once when the journal has it written at most once: what was begun and did not become a file may be begun again.
function writtenTwice(home: string): string[] {
  const journals = filesBelow(join(home, "state")).filter(
    (path) => path.endsWith(".jsonl") && path.includes("batches"),
  );
  const entries = journals
    .flatMap((path) => readFileSync(path, "utf8").split("\n"))
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as { output: string; state: string }];
      } catch {
        // Torn by the kill.
        return [];
      }
    });
  const done = entries.filter(({ state }) => state === "done").map(({ output }) => output);
  return done.filter((output, index) => done.indexOf(output) < index);
}

async function download(): Promise<Scenario> {
  const bytes = fileBytes(3_000_000);
  const file = { file: "model.safetensors", bytes: bytes.length, sha256: sha256Of(bytes), licence: "x" };
  const published = { ...file, repository: "some/where", path: file.file, revision: "main" };
  const embedded = { ...file, embedded: "package.json" };
  const numbers = { steps: 1, cfg: 1, sampler: "euler", scheduler: "simple", shift: 3, cfgNorm: 1 };
  const model = {
    summary: "x",
    licence: "x",
    defaults: numbers,
    files: { vae: embedded, textEncoder: embedded, transformer: published },
  };
  const server = await hubServer({ "some/where/resolve/main/model.safetensors": bytes }, { speed: 4_000_000 });
  const args = ["models", "pull", "it", "--yes", "--quiet"];
  return {
    ...{ first: args, again: args },
    env: { HF_ENDPOINT: server.endpoint, QEDIT_CATALOG: "catalog.json" },
    prepare: ({ folder }) =>
      writeFileSync(join(folder, "catalog.json"), JSON.stringify({ default: "it", models: { it: model } })),
    results: ({ home }) => filesBelow(join(home, "data")).filter((path) => path.endsWith(`/${file.file}`)),
    expected: [file.file],
    hashOf: (path) => (basename(path) === file.file ? file.sha256 : undefined),
    twice: () => [],
    close: async () => void (await server[Symbol.asyncDispose]()),
  };
}

/** Paths of all files and folders below a folder; none when it does not exist. */
export function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
  } catch {
    return [];
  }
}
