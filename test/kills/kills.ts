// npm run test:kills -- [--rounds N] [--seed N] [SCENARIO…]: kills qedit with SIGKILL at random moments, runs it again to its end, and looks for
// files that are torn, work that was done twice, and what is left over. Needs `npm run build`.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fileHash } from "../../src/std/file-hash.js";
import { filesBelow, SCENARIOS, type Scenario, type Surroundings } from "./scenarios.js";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
/** Names of files that must not outlast the next run. */
const LEFTOVER = /\.tmp$|\.lock$|\.part$|\.part\.|(^|\/)qedit-(batch|child)-|\.new(\/|$)/;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "40" }, seed: { type: "string", default: "1" } },
});
const names = positionals.length > 0 ? positionals : Object.keys(SCENARIOS);
const rounds = Math.ceil(Number(values.rounds) / names.length);
const counts = { kills: 0, torn: 0, twice: 0, leftovers: 0, failed: 0 };
let state = Number(values.seed) || 1;

for (const name of names) {
  const scenario = await SCENARIOS[name]!();
  const whole = await attempt(scenario, undefined);
  for (let round = 0; round < rounds; round += 1) await attempt(scenario, random() * whole * 1.1);
  await scenario.close();
  console.log(`${name}: ${rounds} rounds, ${whole.toFixed(0)} ms undisturbed`);
}
console.log(
  Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join(", "),
);
if (counts.torn + counts.twice + counts.leftovers + counts.failed > 0) process.exitCode = 1;

// A round in folders of its own: killed after so many milliseconds, if at all, then run to its end. Gives the milliseconds of the last run.
async function attempt(scenario: Scenario, killAfter: number | undefined): Promise<number> {
  const root = mkdtempSync(join(tmpdir(), "qedit-kills-"));
  const at: Surroundings = { folder: join(root, "work"), home: join(root, "home"), temporary: join(root, "tmp") };
  for (const folder of Object.values(at)) mkdirSync(folder);
  scenario.prepare(at);
  try {
    if (killAfter !== undefined) await killed(scenario, at, killAfter);
    const before = await hashes(scenario.results(at));
    for (const [path, hash] of before) if (hash !== scenario.hashOf(path)) fault("torn", `${path} after the kill`);
    const start = performance.now();
    const { code, stderr } = await ended(start_(scenario.again, at, scenario.env));
    const milliseconds = performance.now() - start;
    if (code !== 0) fault("failed", `exit ${code}: ${stderr}`);
    const after = await hashes(scenario.results(at));
    for (const path of scenario.expected) {
      const found = [...after].find(([each]) => each.endsWith(`/${path}`));
      if (found === undefined || found[1] !== scenario.hashOf(path)) fault("torn", `${path} after the next run`);
    }
    for (const repeated of scenario.twice(at)) fault("twice", repeated);
    for (const left of filesBelow(root)) if (LEFTOVER.test(left)) fault("leftovers", left);
    return milliseconds;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function killed(scenario: Scenario, at: Surroundings, after: number): Promise<void> {
  const child = start_(scenario.first, at, scenario.env);
  const end = ended(child);
  await Promise.race([sleep(after), end]);
  if (child.exitCode === null) counts.kills += 1;
  child.kill("SIGKILL");
  await end;
}

function start_(
  args: readonly string[],
  { folder, home, temporary }: Surroundings,
  env: Scenario["env"],
): ChildProcess {
  return spawn(process.execPath, [BIN, ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"]!, HOME: home, QEDIT_HOME: home, TMPDIR: temporary, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
}

function ended(child: ChildProcess): Promise<{ readonly code: number | null; readonly stderr: string }> {
  let stderr = "";
  child.stderr!.on("data", (part: Buffer) => (stderr += part.toString()));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stderr })));
}

async function hashes(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await fileHash(path)] as const)));
}

function fault(kind: Exclude<keyof typeof counts, "kills">, text: string): void {
  counts[kind] += 1;
  console.log(`${kind}: ${text}`);
}

// A linear congruential generator (Numerical Recipes): the same moments for the same seed.
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
