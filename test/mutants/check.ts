// Applies each mutant to a copy of the sources and runs the test file that must fail. Exits with 1 when one survives, or is out of date.
// Run with `npm run test:mutants`, or with words of the bugs that are wanted: `npm run test:mutants -- seed LoRA`.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MUTANTS, type Mutant } from "./mutants.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Copies, each with one mutant at a time. */
const COPIES = 2;
/** What mutants and tests are read from; the rest is linked. */
const COPIED = ["src", "test"];
/** Longer than any of the test files takes: a mutant may loop for ever. */
const PATIENCE = 120_000;

const wanted = process.argv.slice(2);
const mutants = MUTANTS.filter(({ bug }) => wanted.length === 0 || wanted.some((word) => bug.includes(word)));
const problems: string[] = [];

const copies = Array.from({ length: COPIES }, copyOfSources);
try {
  // A test file that fails without any mutant would catch all of them.
  const tests = [...new Set(mutants.map(({ test }) => test))];
  if (!(await passes(copies[0]!, tests))) throw new Error("The tests fail without any mutant");
  const left = [...mutants];
  await Promise.all(
    copies.map(async (copy) => {
      for (let mutant = left.shift(); mutant; mutant = left.shift()) await check(copy, mutant);
    }),
  );
} finally {
  for (const copy of copies) rmSync(copy, { recursive: true, force: true });
}
console.log(`${mutants.length - problems.length} of ${mutants.length} mutants caught`);
for (const problem of problems) console.log(problem);
process.exitCode = problems.length === 0 ? 0 : 1;

function copyOfSources(): string {
  const copy = mkdtempSync(join(tmpdir(), "qedit-mutants-"));
  for (const name of readdirSync(ROOT)) {
    if (COPIED.includes(name)) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    else if (name !== ".git") symlinkSync(join(ROOT, name), join(copy, name));
  }
  return copy;
}

async function check(copy: string, { bug, file, from, to, test }: Mutant): Promise<void> {
  const path = join(copy, file);
  const source = readFileSync(path, "utf8");
  const times = source.split(from).length - 1;
  if (times !== 1) {
    problems.push(`out of date: "${bug}": ${file} has its text ${times} times`);
    return;
  }
  writeFileSync(
    path,
    source.replace(from, () => to),
  );
  try {
    const start = performance.now();
    const isCaught = !(await passes(copy, [test]));
    console.log(
      `${isCaught ? "caught" : "SURVIVED"} in ${Math.round((performance.now() - start) / 100) / 10} s: ${bug}`,
    );
    if (!isCaught) problems.push(`survived: "${bug}": ${test} passes`);
  } finally {
    writeFileSync(path, source);
  }
}

// Whether vitest passes; a run that does not end does not.
async function passes(copy: string, tests: readonly string[]): Promise<boolean> {
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const child = spawn(process.execPath, [vitest, "run", "--bail", "1", ...tests], {
    cwd: copy,
    stdio: "ignore",
    timeout: PATIENCE,
    killSignal: "SIGKILL",
  });
  await once(child, "close");
  return child.exitCode === 0;
}
