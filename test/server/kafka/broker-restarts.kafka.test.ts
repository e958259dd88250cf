// A broker that dies under load: workers join again, and every job is answered once it is back.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startBroker, type TestBroker } from "../../support/kafka-broker.js";
import { startServer, type TestServer } from "../../support/server.js";
import { openTestClient, pictureOf, requestOf, SMALL } from "./kafka-client.js";

const folder = temporaryFolder();
let broker: TestBroker;
const workers: TestServer[] = [];
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(async () => {
  for (const worker of workers) await worker.stop("SIGKILL");
  await broker?.remove();
});

test("no job is lost when the broker is killed and started again", async () => {
  const client = await openTestClient(broker.brokers);
  for (const name of ["a", "b"]) {
    mkdirSync(folder.at(name));
    const args = ["--kafka", broker.brokers, "--store", folder.at("store"), "--no-cache"];
    workers.push(await startServer({ folder: folder.at(name), args }));
  }
  const ids = Array.from({ length: 12 }, () => randomUUID());
  for (const [index, id] of ids.entries()) await client.send(requestOf(id, [CAT], { ...SMALL, seed: String(index) }));
  await client.messages("qedit.run.response.v1", (all) => all.length === 2);
  await broker.kill();
  await delay(3000);
  await broker.start();
  const answers = await client.answers(ids);
  for (const answer of answers.values()) {
    expect(answer.status).toBe("completed");
    expect(createHash("sha256").update(pictureOf(answer)).digest("hex")).toBe(answer.result!.sha256);
  }
  const pictures = new Set([...answers.values()].map(({ result }) => result!.sha256));
  expect(pictures.size).toBe(ids.length);
  await client.close();
});
