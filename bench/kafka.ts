// npm run bench:kafka [-- --jobs N --seconds N --workers N,N]: what Kafka costs beside the work, and what further workers bring. Workers are processes with everything
// that `qedit work` has but its networks: a job that was read, resolved, checked and queued waits for a fixed time, so that two cores can stand for many GPUs. Prints a table, writes
// results/kafka.json. Needs Java 17 and Maven.
import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createTopics } from "../src/server/kafka/kafka-topics.js";
import { openKafka } from "../src/server/kafka/platformatic-client.js";
import { openTestClient, requestOf, SMALL, type TestClient } from "../test/server/kafka/kafka-client.js";
import { startBroker } from "../test/support/kafka-broker.js";
import { residentMegabytes } from "../test/support/processes.js";
import type { Computed } from "./kafka-worker.js";
import { machineFacts, now } from "./report.js";

const CAT = fileURLToPath(new URL("../fixtures/images/cat.jpg", import.meta.url));
const WORKER = fileURLToPath(new URL("./kafka-worker.ts", import.meta.url));
const RESULTS = fileURLToPath(new URL("./results/kafka.json", import.meta.url));
/** What `qedit kafka topics create` makes. */
const PARTITIONS = 16;

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "32" },
    seconds: { type: "string", default: "1" },
    workers: { type: "string", default: "1,2,4" },
    /** Jobs of each worker that are not measured: the first one of a process opens the model files. */
    warm: { type: "string", default: "4" },
  },
});
/** Jobs for each worker, and what each takes. */
const [jobs, seconds] = [Number(values.jobs), Number(values.seconds)];
const folder = mkdtempSync(join(tmpdir(), "qedit-bench-kafka-"));
const results: object[] = [];
const broker = await startBroker();
try {
  const client = await openKafka(broker.brokers);
  await createTopics(client, { partitions: PARTITIONS, replicas: 1 });
  await client.close();
  for (const workers of values.workers.split(",").map(Number)) results.push(await measured(workers));
} finally {
  await broker.remove();
  rmSync(folder, { recursive: true, force: true });
}
console.table(results);
const report = { date: now(), machine: machineFacts(), jobsEach: jobs, secondsEach: seconds, results };
writeFileSync(RESULTS, `${JSON.stringify(report, null, 2)}\n`);

async function measured(count: number): Promise<object> {
  const load = loadavg()[0]!;
  const workers = await Promise.all(Array.from({ length: count }, (_, index) => started(`${count}-${index}`)));
  // Partitions are handed over from one member to the next.
  await delay(6000);
  const client = await openTestClient(broker.brokers);
  if (Number(values.warm) > 0) await done(client, `9${count}`, count * Number(values.warm));
  for (const { computed } of workers) computed.length = 0;
  const { sent, wall, answers } = await done(client, `${count}`, count * jobs);
  const shares = workers.map(({ computed }) => computed.length);
  const memory = workers.map(({ child }) => residentMegabytes(child.pid!));
  const between = workers.flatMap(({ computed }) => overheads(computed)).sort((a, b) => a - b);
  await client.close();
  for (const { child } of workers) {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  const ideal = jobs * seconds;
  return {
    workers: count,
    jobs: answers.size,
    "jobs of each worker": `${Math.min(...shares)} to ${Math.max(...shares)}`,
    "wall s": round(wall),
    efficiency: round(ideal / wall),
    "overhead ms: median": round(between[between.length >> 1]!),
    "overhead ms: mean": round(between.reduce((sum, each) => sum + each, 0) / between.length),
    "overhead ms: 95 %": round(between[Math.floor(between.length * 0.95)]!),
    "with start and end: ms a job": round(((wall - ideal) * 1000) / jobs),
    "sending ms a job": round(sent / answers.size),
    "bytes of a request": statSync(CAT).size,
    "worker MB": Math.max(...memory),
    "load before": round(load),
  };
}

/** Has jobs done; times in milliseconds and seconds. */
async function done(client: TestClient, name: string, count: number) {
  const ids = Array.from({ length: count }, () => randomUUID());
  const begin = Date.now();
  const answered = client.answers(ids);
  for (const [seed, id] of ids.entries()) await client.send(requestOf(id, [CAT], { ...SMALL, seed: `${name}${seed}` }));
  const sent = Date.now() - begin;
  const answers = await answered;
  // Whoever reads the answers takes a second to leave.
  const wall = (Math.max(...[...answers.values()].map(({ at }) => at)) - begin) / 1000;
  return { sent, wall, answers };
}

/** A worker and what it has computed. */
interface Worker {
  readonly child: ChildProcess;
  readonly computed: Computed[];
}

async function started(name: string): Promise<Worker> {
  const args = [broker.brokers, join(folder, "store"), join(folder, name), String(seconds * 1000)];
  const child = fork(WORKER, args, { execArgv: process.execArgv });
  await once(child, "message");
  const computed: Computed[] = [];
  child.on("message", (each) => computed.push(each as Computed));
  return { child, computed };
}

/** What passes between the starts of two jobs of a worker, which always has a next one, beyond the time of the job: milliseconds. */
function overheads(computed: readonly Computed[]): readonly number[] {
  return computed.slice(1).map(({ began }, index) => began - computed[index]!.began - seconds * 1000);
}

function round(value: number): number {
  return Number(value.toFixed(3));
}
