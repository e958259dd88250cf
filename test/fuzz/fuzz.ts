// npm run test:fuzz -- [--seconds N] [--seed N] [TARGET…]: reads hostile variants of files for so long. Fails for an exception that is no
// QeditError, for a hang, and for more memory than MOST_MEMORY.
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Report } from "./child.js";

/** Peak of resident memory of a target's process, bytes. */
const MOST_MEMORY = 500e6;
/** Milliseconds without a sign of life after which a process hangs. */
const SILENCE = 40_000;

const NAMES = [
  "headers",
  "gguf",
  "packed",
  "adapters",
  "kinds",
  "artifacts",
  "index",
  "settings",
  "jobs",
  "recipes",
  "pictures",
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "30" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
  },
});
const names = positionals.length > 0 ? positionals : NAMES;
const seconds = Number(values.seconds) / names.length;
console.log(`seed ${values.seed}`);
const folder = mkdtempSync(join(tmpdir(), "qedit-fuzz-"));
try {
  for (const name of names) {
    const report = await run(name);
    const fault = report.memory > MOST_MEMORY ? `took ${megabytes(report.memory)} MB` : report.failure;
    console.log(`${fault ? "failed" : "ok    "} ${name}: ${report.cases} inputs, ${megabytes(report.memory)} MB`);
    if (fault === undefined) continue;
    console.log(fault);
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function run(name: string): Promise<Report> {
  const child = fork(fileURLToPath(new URL("./child.ts", import.meta.url)), [
    name,
    values.seed,
    String(seconds),
    join(folder, name),
  ]);
  return new Promise((resolve) => {
    let report: Report = { cases: 0, memory: 0, failure: "its process ended without a word" };
    let watchdog: NodeJS.Timeout | undefined;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => {
        report = { ...report, failure: `hangs: no sign of life for ${SILENCE / 1000} s; its input lies in ${folder}` };
        child.kill("SIGKILL");
      }, SILENCE);
    };
    watch();
    child.on("message", (message: Report | "alive") => {
      watch();
      if (message !== "alive") report = message;
    });
    child.on("exit", () => {
      clearTimeout(watchdog);
      resolve(report);
    });
  });
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
