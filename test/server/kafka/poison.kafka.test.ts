// Requests that break what is meant to do them: messages of 20 MB, and a job whose engine dies each time. The partition goes on.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { openKafka } from "../../../src/server/kafka/platformatic-client.js";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startBroker, type TestBroker } from "../../support/kafka-broker.js";
import { childrenOf } from "../../support/processes.js";
import { startServer, type TestServer } from "../../support/server.js";
import { openTestClient, requestOf, SMALL, type TestClient } from "./kafka-client.js";

const MEGABYTE = 1024 ** 2;
const folder = temporaryFolder();
let broker: TestBroker;
let client: TestClient;
let worker: TestServer;
beforeAll(async () => {
  broker = await startBroker();
  // Somebody has allowed longer messages than `qedit kafka topics create` does.
  const kafka = await openKafka(broker.brokers);
  const configs = { "max.message.bytes": String(32 * MEGABYTE) };
  await kafka.create({ name: TOPICS.request, partitions: 1, replicas: 1, configs });
  await kafka.close();
  client = await openTestClient(broker.brokers);
  mkdirSync(folder.at("worker"));
  const args = [
    "--kafka",
    broker.brokers,
    "--store",
    folder.at("store"),
    "--no-cache",
    "--retry-delays",
    "200ms,200ms",
  ];
  worker = await startServer({ folder: folder.at("worker"), args });
});
afterAll(async () => {
  await worker?.stop("SIGTERM");
  await client?.close();
  await broker?.remove();
});

test("messages of 20 MB are dead letters whose bytes are in the store, and the next job is done", async () => {
  const garbage = Buffer.alloc(20 * MEGABYTE, 0x5a);
  const picture = { name: "large.png", data: Buffer.alloc(20 * MEGABYTE, 7) };
  const request = requestOf("large", [picture], SMALL);
  await client.send(garbage);
  await client.send(request);
  const good = randomUUID();
  await client.send(requestOf(good, [CAT], SMALL));
  expect((await client.answers([good])).get(good)!.status).toBe("completed");
  expect((await client.answers(["large"])).get("large")).toMatchObject({
    ...{ status: "failed", error: { code: "QEDIT_E_IMAGE", message: expect.stringContaining("large.png") } },
  });
  const letters = await client.messages(TOPICS.dlq, (all) => all.length === 2);
  const sent = [garbage, client.codec.encode("run.request", request)];
  for (const [index, letter] of letters.entries()) {
    const headers = Object.fromEntries(letter.headers.map(([name, value]) => [name, value.toString()]));
    expect(headers["x-error-code"]).toBe(["QEDIT_E_USAGE", "QEDIT_E_IMAGE"][index]);
    expect(letter.value).toHaveLength(0);
    const hash = createHash("sha256").update(sent[index]!).digest("hex");
    expect(headers).toMatchObject({ "x-value-sha256": hash, "x-value-bytes": String(sent[index]!.length) });
    expect(readFileSync(new URL(headers["x-value-uri"]!)).equals(sent[index]!)).toBe(true);
  }
});

test("a job whose engine dies each time is a dead letter after its tries, and the worker goes on", async () => {
  const [deadly, good] = [randomUUID(), randomUUID()];
  await client.send(requestOf(deadly, [CAT], { ...SMALL, megapixels: 0.5, steps: 100 }));
  const letters = client.messages(TOPICS.dlq, (all) => all.at(-1)!.key?.toString() === deadly);
  let isOver = false;
  void letters.finally(() => (isOver = true));
  const starts = () => worker.log.filter(({ msg }) => /^job \S+ started$/.test(msg)).length;
  for (let seen = starts(); !isOver; await delay(20)) {
    if (starts() === seen) continue;
    seen = starts();
    await delay(300);
    for (const pid of childrenOf(worker.child.pid!)) process.kill(pid, "SIGKILL");
  }
  const headers = Object.fromEntries((await letters).at(-1)!.headers.map(([name, value]) => [name, value.toString()]));
  expect(headers).toMatchObject({ "x-error-code": "QEDIT_E_ENGINE", "x-attempt": "3" });
  expect((await client.answers([deadly])).get(deadly)).toMatchObject({
    ...{ status: "failed", error: { code: "QEDIT_E_ENGINE", retryable: true } },
  });
  await client.send(requestOf(good, [CAT], { ...SMALL, seed: "8" }));
  expect((await client.answers([good])).get(good)!.status).toBe("completed");
});
