// npm run test:server-kills -- [--rounds N] [--seed N]: kills a server, or its engine, with SIGKILL at random moments while clients send jobs,
// and starts it again. No accepted job may be lost or done twice, no picture torn, and the next start must answer within five seconds.
// Needs `npm run build`.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { JobSnapshot } from "../../src/server/job-types.js";
import { fileHash } from "../../src/std/file-hash.js";
import { contentOf, endOf, formOf, jobOf, sendJob } from "../server/jobs.js";
import { fixture } from "../support/golden.js";
import { childrenOf } from "../support/processes.js";
import { startServer, type TestServer } from "../support/server.js";

/** Milliseconds until a server must be ready after a kill. */
const START_WITHIN = 5000;
/** Edits that differ, each made once undisturbed to know its hash. */
const SEEDS = 6;
const CLIENTS = 3;
/** Longest time between two kills, milliseconds. */
const LONGEST_ROUND = 1500;
const CAT = fixture("images/cat.jpg");

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "40" }, seed: { type: "string", default: "1" } },
});
let state = Number(values.seed) || 1;
const rounds = Number(values.rounds);
const folder = mkdtempSync(join(tmpdir(), "qedit-server-kills-"));
const counts = { server: 0, engine: 0, accepted: 0, completed: 0, failed: 0 };
const faults: string[] = [];
/** Keys of accepted jobs by the id that the server gave. */
const accepted = new Map<string, { readonly key: string; readonly seed: number }>();
const logs: TestServer["log"][] = [];
let slowest = 0;

let server = await start();
const right = new Map<number, string>();
for (let seed = 0; seed < SEEDS; seed += 1) {
  const { id } = await sendJob(server.url, form(seed));
  right.set(seed, (await endOf(server.url, id)).result!.sha256);
}

let isOver = false;
const clients = Array.from({ length: CLIENTS }, (_, client) => sendJobs(client));
for (let round = 0; round < rounds; round += 1) {
  await sleep(random() * LONGEST_ROUND);
  if (random() < 0.5) await killServer();
  else killEngine();
}
isOver = true;
await Promise.all(clients);
await checkJobs();
await server.stop();
checkTwice();
rmSync(folder, { recursive: true, force: true });
console.log(
  `${counts.server} kills of the server, ${counts.engine} of its engine; ${counts.accepted} jobs accepted, ${counts.completed} completed, ` +
    `${counts.failed} failed with their engine; slowest start ${slowest.toFixed(0)} ms; ${faults.length} faults`,
);
for (const fault of faults) console.log(fault);
if (faults.length > 0) process.exitCode = 1;

async function start(): Promise<TestServer> {
  const begin = performance.now();
  const started = await startServer({ folder, args: ["--max-queue", "8", "--no-cache", "--keep-results", "forever"] });
  slowest = Math.max(slowest, performance.now() - begin);
  if (performance.now() - begin > START_WITHIN) faults.push(`a start took ${performance.now() - begin} ms`);
  logs.push(started.log);
  return started;
}

async function killServer(): Promise<void> {
  counts.server += 1;
  await server.stop("SIGKILL");
  server = await start();
}

function killEngine(): void {
  for (const pid of childrenOf(server.child.pid!)) {
    counts.engine += 1;
    process.kill(pid, "SIGKILL");
  }
}

// A client that sends each job until it is accepted, by one key.
async function sendJobs(client: number): Promise<void> {
  for (let number = 0; !isOver; number += 1) {
    const [key, seed] = [`${client}-${number}`, (client + number) % SEEDS];
    const job = await untilAccepted(key, seed);
    const known = accepted.get(job.id);
    if (known !== undefined && known.key !== key) faults.push(`job ${job.id} belongs to two requests`);
    accepted.set(job.id, { key, seed });
  }
}

async function untilAccepted(key: string, seed: number): Promise<JobSnapshot> {
  for (;;) {
    try {
      return await sendJob(server.url, form(seed), { "idempotency-key": key });
    } catch {
      // The server was killed, or its queue is full.
      await sleep(50);
    }
  }
}

async function checkJobs(): Promise<void> {
  counts.accepted = accepted.size;
  for (const [id, { seed }] of accepted) {
    await endOf(server.url, id);
    const { state: end, result, error } = await jobOf(server.url, id);
    if (end === "completed") {
      counts.completed += 1;
      const hash = await fileHash(await contentOf(server.url, id));
      if (hash !== result!.sha256 || hash !== right.get(seed)) faults.push(`the picture of ${id} is torn`);
    } else if (error?.code === "QEDIT_E_ENGINE") counts.failed += 1;
    else faults.push(`job ${id} is ${end}: ${JSON.stringify(error)}`);
  }
  const stored = readdirSync(join(folder, "home", "state", "server", "jobs")).length;
  const keys = new Set([...accepted.values()].map(({ key }) => key)).size;
  if (keys !== accepted.size) faults.push(`${accepted.size} jobs of ${keys} requests`);
  if (stored !== accepted.size + SEEDS)
    faults.push(`${stored} jobs are stored, ${accepted.size + SEEDS} were accepted`);
}

// A job that was reported as ended must not end again.
function checkTwice(): void {
  const ends = logs.flat().filter(({ state: end }) => end === "completed" || end === "failed");
  const ids = ends.map(({ job }) => job);
  for (const id of new Set(ids.filter((each, index) => ids.indexOf(each) < index)))
    faults.push(`job ${String(id)} was done twice`);
}

function form(seed: number): FormData {
  return formOf([CAT], { prompt: "make it black and white", megapixels: "0.01", steps: "3", seed: String(seed) });
}

// A linear congruential generator (Numerical Recipes): the same moments for the same seed.
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
