// Messages in the framing of a real registry, between a real broker, worker and client.
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import avro from "avsc";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { openAvroCodec } from "../../../src/server/kafka/avro-codec.js";
import { avroSchemas } from "../../../src/server/kafka/avro-schemas.js";
import { TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { SchemaRegistry, subjectOf } from "../../../src/server/kafka/schema-registry.js";
import { CAT, spawned } from "../../cli/qedit.js";
import { startRegistry } from "../../support/apicurio.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { openTestClient, requestOf, SMALL } from "./kafka-client.js";

const brokers = inject("kafkaBrokers");
const folder = temporaryFolder();
let registry: Awaited<ReturnType<typeof startRegistry>>;
beforeAll(async () => {
  registry = await startRegistry();
}, 200_000);
afterAll(() => registry.stop());

const register = () =>
  spawned(["kafka", "schemas", "register", "--schema-registry", registry.url, "--json"], { cwd: folder.path });

test("schemas are registered once, keep their ids, and go on only to what reads them", async () => {
  const first = await register();
  expect(first).toMatchObject({ code: 0, stderr: "" });
  expect((await register()).stdout).toBe(first.stdout);
  const schema = avroSchemas().progress as { fields: object[] };
  const stricter = { ...schema, fields: [...schema.fields, { name: "needed", type: "string" }] };
  const own = new SchemaRegistry(registry.url);
  await expect(own.register("progress", stricter)).rejects.toMatchObject({
    code: "QEDIT_E_USAGE",
    message: expect.stringContaining("Cannot register qedit.progress.v1-value"),
  });
});

test("`kafka topics create` registers them first, and fails when it cannot", async () => {
  const { schemas } = JSON.parse((await register()).stdout) as { schemas: object[] };
  const create = (url: string) =>
    spawned(["kafka", "topics", "create", "--kafka", brokers, "--json"], {
      cwd: folder.path,
      env: { QEDIT_SCHEMA_REGISTRY: url },
    });
  const created = await create(registry.url);
  expect(created).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(created.stdout)).toMatchObject({ schemas, topics: expect.arrayContaining([expect.anything()]) });
  const refused = await create("http://127.0.0.1:1");
  expect(refused.code).not.toBe(0);
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: "QEDIT_E_NETWORK" } });
});

test("a worker and `qedit submit` speak in its framing, and a message of an unknown schema is a dead letter", async () => {
  await register();
  const client = await openTestClient(brokers);
  const own = folder.at("worker");
  mkdirSync(own);
  const shared = ["--kafka", brokers, "--store", folder.at("store"), "--schema-registry", registry.url];
  const worker = await startServer({ folder: own, args: [...shared, "--no-cache"] });
  try {
    const unknown = Buffer.concat([Buffer.from([0, 0, 0x7f, 0xff, 0xff]), Buffer.from("garbage")]);
    await client.send(unknown);
    const { prompt, megapixels, steps, seed } = SMALL;
    const job = { images: [CAT], output: folder.at("out.png"), prompt, megapixels, steps, seed: Number(seed) };
    const jobs = folder.write("jobs.jsonl", JSON.stringify(job));
    const submitted = await spawned(["submit", jobs, ...shared, "--wait"], { cwd: folder.path });
    expect(submitted).toMatchObject({ code: 0 });
    const texts = { prompt, megapixels: String(megapixels), steps: String(steps), seed };
    expect(readFileSync(folder.at("out.png")).equals(await ran([CAT], texts, folder))).toBe(true);

    const [letter] = await client.messages(TOPICS.dlq, (all) => all.some(({ value }) => value.equals(unknown)));
    expect(Object.fromEntries(letter!.headers.map(([name, value]) => [name, value.toString()]))).toMatchObject({
      "x-error-code": "QEDIT_E_USAGE",
      "x-error-message": expect.stringContaining("has no schema 8388607"),
    });
    // As any other reader of the registry would read the answer: by the id in its head.
    const [response] = await client.messages(TOPICS.response, (all) => all.length === 1);
    const id = response!.value.readUInt32BE(1);
    const found = (await (await fetch(`${registry.url}/schemas/ids/${id}`)).json()) as { schema: string };
    const type = avro.Type.forSchema(JSON.parse(found.schema) as avro.Schema);
    expect(type.fromBuffer(response!.value.subarray(5))).toMatchObject({ status: "completed" });
    const subjects = (await (await fetch(`${registry.url}/subjects`)).json()) as string[];
    expect(subjects).toContain(subjectOf("run.request"));

    // A client without the registry is answered in the worker's framing; one with it reads both.
    const id2 = randomUUID();
    await client.send(requestOf(id2, [CAT], SMALL));
    const both = await openAvroCodec(registry.url);
    const answers = await client.messages(TOPICS.response, (all) => all.at(-1)!.key?.toString() === id2);
    expect(await both.decode("run.response", answers.at(-1)!.value)).toMatchObject({ status: "completed" });
  } finally {
    await worker.stop("SIGTERM");
    await client.close();
  }
});
