// npm run test:kafka-kills -- [--jobs N] [--workers N] [--seconds N] [--seed N] [--stages]: jobs over a real Kafka, while a worker is killed with SIGKILL every few
// seconds and started again, and the broker is killed and started again twice. Every job must be answered, with the bytes of `qedit batch`, whoever
// did it and however often. With --stages they go through the single stages, each of which any worker does. Needs `npm run build`, Java 17 and Maven.
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import type { RunResponse } from "../../src/server/kafka/kafka-messages.js";
import { responseTopic, TOPICS } from "../../src/server/kafka/kafka-topics.js";
import { STAGES } from "../../src/stages/stage.js";
import { fileHash } from "../../src/std/file-hash.js";
import { openTestClient, pictureOf, requestOf, SMALL } from "../server/kafka/kafka-client.js";
import { sendStage, stageRequestOf } from "../server/kafka/stage-client.js";
import { fixture } from "../support/golden.js";
import { startBroker } from "../support/kafka-broker.js";
import { startServer, type TestServer } from "../support/server.js";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
const CAT = fixture("images/cat.jpg");
/** Milliseconds that the broker is away. */
const AWAY = 3000;
/** Milliseconds in which all jobs must be answered. */
const DONE_WITHIN = 30 * 60_000;

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "200" },
    workers: { type: "string", default: "3" },
    /** Between two kills of a worker. */
    seconds: { type: "string", default: "2" },
    seed: { type: "string", default: "1" },
    stages: { type: "boolean", default: false },
  },
});
const [count, workerCount, seconds] = [Number(values.jobs), Number(values.workers), Number(values.seconds)];
let state = Number(values.seed) || 1;
const folder = mkdtempSync(join(tmpdir(), "qedit-kafka-kills-"));
const store = join(folder, "store");
const faults: string[] = [];
const logs: TestServer["log"][] = [];
const kills = { workers: 0, broker: 0 };

const jobs = Array.from({ length: count }, (_, seed) => ({ id: randomUUID(), seed: String(seed) }));
const right = await rightHashes();
const broker = await startBroker();
const client = await openTestClient(broker.brokers);
const workers = await Promise.all(Array.from({ length: workerCount }, (_, index) => start(index)));
const begin = performance.now();
const last = values.stages ? "decode" : "run";
for (const { id, seed } of jobs)
  if (values.stages) await sendStage(client, stageRequestOf(id, [CAT], { ...SMALL, seed }));
  else await client.send(requestOf(id, [CAT], { ...SMALL, seed }));

const answers = new Map<string, RunResponse[]>();
const reading = readAnswers();
await Promise.all([killWorkers(), killBroker(), reading]);
for (const worker of workers) await worker.stop("SIGTERM");
await check();
await client.close();
await broker.remove();
rmSync(folder, { recursive: true, force: true });

// A stage that equals another job's is computed once for both.
const messages = logs.flat().map(({ msg }) => msg);
const started = messages.filter((msg) => /^job \S+ started$|: sample computed/.test(msg)).length;
const all = [...answers.values()].flat().length;
console.log(
  `${count} jobs by ${workerCount} workers in ${((performance.now() - begin) / 1000).toFixed(0)} s; ${kills.workers} kills of a worker, ${kills.broker} of the broker; ` +
    `${answers.size} jobs answered, ${all - answers.size} answers came twice; ${started} ${values.stages ? "samplings" : "computations"}, ${started - count} more than jobs; ${faults.length} faults`,
);
for (const fault of faults) console.log(fault);
if (faults.length > 0) process.exitCode = 1;

/** SHA-256 of each job's picture, by seed, as `qedit batch` makes it undisturbed. */
async function rightHashes(): Promise<ReadonlyMap<string, string>> {
  const lines = jobs.map(({ seed }) => ({
    ...{ images: [CAT], output: join(folder, `${seed}.png`), prompt: SMALL.prompt },
    ...{ megapixels: SMALL.megapixels, steps: SMALL.steps, seed: Number(seed) },
  }));
  const file = join(folder, "jobs.jsonl");
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const command = [BIN, "batch", file, "--model", "tiny", "--device", "cpu", "--threads", "1", "--no-cache"];
  await promisify(execFile)(process.execPath, command, { cwd: folder, env: { ...process.env, QEDIT_HOME: folder } });
  const hashes = lines.map(async ({ seed, output }) => [String(seed), await fileHash(readFileSync(output))] as const);
  return new Map(await Promise.all(hashes));
}

async function start(index: number): Promise<TestServer> {
  const own = join(folder, `worker-${index}`);
  mkdirSync(own, { recursive: true });
  const stages = values.stages ? ["--stages", STAGES.join(",")] : [];
  const kafka = ["--kafka", broker.brokers, "--store", store, "--no-cache", ...stages];
  // A broker that is away is waited for, as a supervisor would.
  for (let tries = 0; ; tries++) {
    try {
      const worker = await startServer({ folder: own, args: kafka });
      logs.push(worker.log);
      return worker;
    } catch (error) {
      if (tries > 20) throw error;
      await sleep(500);
    }
  }
}

async function killWorkers(): Promise<void> {
  while (answers.size < count) {
    await sleep(seconds * 1000);
    const index = Math.floor(random() * workers.length);
    await workers[index]!.stop("SIGKILL");
    kills.workers += 1;
    workers[index] = await start(index);
  }
}

async function killBroker(): Promise<void> {
  for (const share of [1 / 3, 2 / 3]) {
    while (answers.size < count * share) await sleep(100);
    await broker.kill();
    kills.broker += 1;
    await sleep(AWAY);
    await broker.start();
  }
}

// All answers, those that come twice too; reads from the start again when the broker has gone.
async function readAnswers(): Promise<void> {
  const end = Date.now() + DONE_WITHIN;
  const seen = new Set<string>();
  while (answers.size < count && Date.now() < end) {
    try {
      await client.messages(responseTopic(last), async (messages) => {
        const { partition, offset, value } = messages.at(-1)!;
        const place = `${partition}:${offset}`;
        if (seen.has(place)) return false;
        seen.add(place);
        const response = await client.codec.decode(`${last}.response`, value);
        const { job_id: id } = response.envelope;
        answers.set(id, [...(answers.get(id) ?? []), response]);
        return answers.size === count;
      });
    } catch {
      await sleep(500);
    }
  }
  if (answers.size < count) faults.push(`${count - answers.size} jobs have no answer`);
}

async function check(): Promise<void> {
  const { next, first } = (await client.kafka.offsets(TOPICS.dlq))[0]!;
  if (next !== first) faults.push(`${next - first} dead letters`);
  for (const { id, seed } of jobs)
    for (const response of answers.get(id) ?? []) {
      if (response.status !== "completed") {
        faults.push(`job ${id} is ${response.status}: ${JSON.stringify(response.error)}`);
        continue;
      }
      const hash = await fileHash(pictureOf(response));
      if (hash !== response.result!.sha256 || hash !== right.get(seed)) faults.push(`the picture of ${id} is another`);
    }
}

// A linear congruential generator (Numerical Recipes): the same victims for the same seed.
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
