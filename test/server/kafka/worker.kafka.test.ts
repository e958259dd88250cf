// Workers against a real broker: the same bytes as the command line, each job once, whatever is sent and whoever is killed.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { afterAll, afterEach, describe, expect, inject, test, vi } from "vitest";
import { TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { openTestClient, pictureOf, requestOf, SMALL, type TestClient } from "./kafka-client.js";

const brokers = inject("kafkaBrokers");
const folder = temporaryFolder();
const store = folder.at("store");
const clients: TestClient[] = [];
const workers: TestServer[] = [];
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop("SIGTERM");
});
afterAll(async () => {
  for (const client of clients) await client.close();
});

async function opened(): Promise<TestClient> {
  const client = await openTestClient(brokers);
  clients.push(client);
  return client;
}

async function worker(...args: string[]): Promise<TestServer> {
  const own = folder.at(`worker-${randomUUID()}`);
  mkdirSync(own);
  const kafka = ["--kafka", brokers, "--store", store, "--retry-delays", "300ms,300ms"];
  const started = await startServer({ folder: own, args: [...kafka, "--no-cache", ...args] });
  workers.push(started);
  return started;
}

/** Jobs that a worker computed; answers from the store are none. */
const computed = ({ log }: TestServer) => log.filter(({ msg }) => /^job \S+ started$/.test(msg)).length;
const ids = (count: number) => Array.from({ length: count }, () => randomUUID());
const texts = (values: object) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("a worker answers with the bytes that the command line makes, its trace, and its progress; the same again is not computed", async () => {
  const client = await opened();
  const one = await worker();
  const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const [first, second] = ids(2) as [string, string];
  await client.send(requestOf(first, [CAT], SMALL), [["traceparent", Buffer.from(trace)]]);
  const answer = (await client.answers([first])).get(first)!;
  expect(answer).toMatchObject({ status: "completed", error: null, envelope: { cursor: 1 } });
  expect(pictureOf(answer).equals(await ran([CAT], texts(SMALL), folder))).toBe(true);
  expect(answer.result!.sha256).toBe(sha256(pictureOf(answer)));
  const [response] = await client.messages(TOPICS.response, (all) => all.length === 1);
  expect(response!.headers.map(([name, value]) => [name, value.toString()])).toEqual([["traceparent", trace]]);
  expect(response!.key!.toString()).toBe(first);

  await client.send(requestOf(second, [CAT], SMALL));
  expect(pictureOf((await client.answers([second])).get(second)!).equals(pictureOf(answer))).toBe(true);
  expect(computed(one)).toBe(1);
  const states = new Set<string>();
  const wanted = [`${first} running`, `${first} completed`, `${second} completed`];
  await client.messages(TOPICS.progress, async (all) => {
    const { job_id: id, state } = await client.codec.decode("progress", all.at(-1)!.value);
    states.add(`${id} ${state}`);
    return wanted.every((each) => states.has(each));
  });
  expect(states).not.toContain(`${second} running`);
});

test("pictures by reference are read from the store, and a seed that is left to chance is the same when the job comes again", async () => {
  const client = await opened();
  const bytes = readFileSync(ROCKET);
  mkdirSync(store, { recursive: true });
  writeFileSync(`${store}/rocket.jpg`, bytes);
  const data = { uri: pathToFileURL(`${store}/rocket.jpg`).href, sha256: sha256(bytes), size: bytes.length };
  const id = randomUUID();
  const request = requestOf(id, [{ name: "rocket.jpg", data }], { ...SMALL, seed: "random" });
  await worker();
  await client.send(request);
  await client.send(request);
  const answers = await client.messages(TOPICS.response, (all) => all.length === 2);
  const [a, b] = await Promise.all(answers.map(({ value }) => client.codec.decode("run.response", value)));
  expect(a!.result!.seed).toBe(b!.result!.seed);
  const alone = await ran([ROCKET], texts({ ...SMALL, seed: a!.result!.seed }), folder);
  for (const each of [a!, b!]) expect(pictureOf(each).equals(alone)).toBe(true);
});

describe("what cannot be done", () => {
  const lie = (uri: string, hash = "0".repeat(64)) => ({ name: "x.png", data: { uri, sha256: hash, size: 6 } });
  const outside = folder.write("outside.png", "secret");
  mkdirSync(store, { recursive: true });
  symlinkSync(outside, `${store}/link.png`);
  writeFileSync(`${store}/other.png`, "other!");
  mkdirSync(`${store}/folder.png`);

  test("goes to the dead letters with its bytes, headers and code, and the partition goes on", async () => {
    const client = await opened();
    const url = (name: string) => pathToFileURL(`${store}/${name}`).href;
    const garbage = Buffer.from("garbage");
    const poison: readonly (readonly [Buffer | ReturnType<typeof requestOf>, string, RegExp])[] = [
      [garbage, "QEDIT_E_USAGE", /Cannot read the message as run\.request/],
      [Buffer.concat([Buffer.from([0xc3, 1]), Buffer.alloc(8, 9), garbage]), "QEDIT_E_USAGE", /fingerprint 0909/],
      [Buffer.alloc(0), "QEDIT_E_USAGE", /does not begin/],
      [requestOf("unknown-model", [CAT], { ...SMALL, model: "nobody" }), "QEDIT_E_USAGE", /nobody/],
      [requestOf("bad-picture", [{ name: "x.png", data: garbage }], SMALL), "QEDIT_E_IMAGE", /x\.png/],
      [requestOf("no-picture", [], SMALL), "QEDIT_E_USAGE", /No picture/],
      [requestOf("missing", [lie(url("missing.png"))], SMALL), "QEDIT_E_IMAGE", /is not there/],
      [requestOf("wrong-hash", [lie(url("other.png"))], SMALL), "QEDIT_E_IMAGE", /SHA-256/],
      [requestOf("folder", [lie(url("folder.png"))], SMALL), "QEDIT_E_IMAGE", /no file of the store/],
      [
        requestOf("link", [lie(url("link.png"), sha256(Buffer.from("secret")))], SMALL),
        "QEDIT_E_IMAGE",
        /no file of the store/,
      ],
      [
        requestOf("up", [lie(`file://${store}/../outside.png`, sha256(Buffer.from("secret")))], SMALL),
        "QEDIT_E_IMAGE",
        /no file:/,
      ],
      [requestOf("etc", [lie("file:///etc/passwd")], SMALL), "QEDIT_E_IMAGE", /no file of the store/],
      [requestOf("http", [lie("http://127.0.0.1/x.png")], SMALL), "QEDIT_E_IMAGE", /no file:/],
      [requestOf("path", [CAT], { ...SMALL, lora: ["/etc/passwd"] }), "QEDIT_E_USAGE", /lora/],
    ];
    await worker();
    for (const [message] of poison) await client.send(message, [["x-mine", Buffer.from([1, 255])]]);
    const good = randomUUID();
    await client.send(requestOf(good, [CAT], SMALL));
    expect((await client.answers([good])).get(good)!.status).toBe("completed");
    const dead = await client.messages(TOPICS.dlq, (all) => all.length === poison.length);
    for (const [message, code, reason] of poison) {
      const value = Buffer.isBuffer(message) ? message : client.codec.encode("run.request", message);
      const letter = dead.find((each) => each.value.equals(value))!;
      const headers = Object.fromEntries(letter.headers.map(([name, bytes]) => [name, bytes.toString("latin1")]));
      expect(headers).toMatchObject({
        "x-mine": "\x01\xff",
        "x-error-code": code,
        "x-original-topic": TOPICS.request,
        "x-attempt": "1",
      });
      expect(headers["x-error-message"]).toMatch(reason);
      expect(headers["x-original-offset"]).toMatch(/^\d+$/);
    }
    const named = poison.flatMap(([message]) => (Buffer.isBuffer(message) ? [] : [message.envelope.job_id]));
    for (const response of (await client.answers(named)).values())
      expect(response).toMatchObject({ status: "failed", result: null });
  });

  test("for a passing reason is tried again later, and then done", async () => {
    const client = await opened();
    const broken = `${store}-broken`;
    mkdirSync(broken);
    // No folder can be where a file is.
    writeFileSync(`${broken}/results`, "");
    const one = await worker("--store", broken, "--retry-delays", "2s,2s");
    const id = randomUUID();
    await client.send(requestOf(id, [CAT], SMALL));
    await client.messages(TOPICS.retry, (all) => all.length === 1);
    rmSync(`${broken}/results`);
    expect((await client.answers([id])).get(id)!.status).toBe("completed");
    expect(computed(one)).toBe(1);
  });

  test("is a dead letter when no more tries are left", async () => {
    const client = await opened();
    const broken = `${store}-broken-for-good`;
    mkdirSync(broken);
    writeFileSync(`${broken}/results`, "");
    await worker("--store", broken);
    const id = randomUUID();
    await client.send(requestOf(id, [CAT], SMALL));
    const answer = (await client.answers([id])).get(id)!;
    expect(answer).toMatchObject({ status: "failed", error: { code: "QEDIT_E_IO" } });
    const [letter] = await client.messages(TOPICS.dlq, (all) => all.length === 1);
    expect(letter!.headers.find(([name]) => name === "x-attempt")![1].toString()).toBe("3");
  });
});

test("three workers share thirty jobs, one of them is killed, and every answer has the bytes of the command line", async () => {
  const client = await opened();
  const three = [await worker(), await worker(), await worker()];
  const jobs = ids(30).map((id, index) => ({
    id,
    prompt: index % 2 === 0 ? "make it sepia" : "mirror it",
    seed: String(index),
  }));
  for (const { id, prompt, seed } of jobs) await client.send(requestOf(id, [CAT], { ...SMALL, prompt, seed }));
  await client.messages(TOPICS.response, (all) => all.length === 4);
  await three[1]!.stop("SIGKILL");
  const answers = await client.answers(jobs.map(({ id }) => id));
  for (const { id, prompt, seed } of [jobs[0]!, jobs[13]!, jobs[29]!])
    expect(pictureOf(answers.get(id)!).equals(await ran([CAT], texts({ ...SMALL, prompt, seed }), folder))).toBe(true);
  for (const answer of answers.values()) expect(sha256(pictureOf(answer))).toBe(answer.result!.sha256);
  expect(new Set([...answers.values()].map(({ worker: name }) => name)).size).toBeGreaterThanOrEqual(2);
});

test("SIGTERM finishes the job in hand, answers and leaves the others", async () => {
  const client = await opened();
  const one = await worker();
  const jobs = ids(6);
  for (const [index, id] of jobs.entries())
    await client.send(requestOf(id, [CAT], { ...SMALL, seed: String(100 + index) }));
  await client.messages(TOPICS.response, (all) => all.length === 1);
  const { code, milliseconds } = await one.stop("SIGTERM");
  expect(code).toBe(0);
  expect(milliseconds).toBeLessThan(20_000);
  const before = computed(one);
  expect(before).toBeLessThan(jobs.length);
  const two = await worker();
  await client.answers(jobs);
  expect(before + computed(two)).toBe(jobs.length);
});

test("an update of one worker after the other loses no job, and none is done twice by who ends", async () => {
  const client = await opened();
  const old = [await worker(), await worker()];
  const jobs = ids(14);
  for (const [index, id] of jobs.entries())
    await client.send(requestOf(id, [CAT], { ...SMALL, steps: 6, seed: String(300 + index) }));
  const ended: TestServer[] = [];
  for (const one of old) {
    // In the middle of a job.
    const before = computed(one);
    await vi.waitFor(() => expect(computed(one)).toBeGreaterThan(before), { timeout: 30_000, interval: 5 });
    expect((await one.stop("SIGTERM")).code).toBe(0);
    ended.push(one, await worker());
  }
  const answers = await client.answers(jobs);
  expect([...answers.values()].map(({ status }) => status)).toEqual(jobs.map(() => "completed"));
  // A worker that joins may be handed over the partition of a job that another one has in hand: docs/kafka.md.
  const twice = ended.map(computed).reduce((sum, each) => sum + each) - jobs.length;
  expect(twice).toBeGreaterThanOrEqual(0);
  expect(twice).toBeLessThanOrEqual(old.length);
});

test("a job that takes longer than the session of a member stays with its worker", async () => {
  const client = await opened();
  const two = [await worker(), await worker()];
  // A partition that is handed over to the second one while the first has its message is done by both.
  await delay(5000);
  const id = randomUUID();
  const start = performance.now();
  await client.send(requestOf(id, [CAT], { ...SMALL, megapixels: 0.1, steps: 40 }));
  expect((await client.answers([id])).get(id)!.status).toBe("completed");
  // Members are thrown out after 6 s without a heartbeat, see test/support/kafka-broker.ts.
  expect(performance.now() - start).toBeGreaterThan(7000);
  expect(two.map(computed).sort()).toEqual([0, 1]);
  expect(two.flatMap(({ log }) => log.filter(({ msg }) => msg.includes("again")))).toEqual([]);
});
