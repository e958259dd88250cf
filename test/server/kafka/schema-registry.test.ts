// The framing of a schema registry, with one that says what a test wants; test:kafka has a real one.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { openAvroCodec } from "../../../src/server/kafka/avro-codec.js";
import { SchemaRegistry } from "../../../src/server/kafka/schema-registry.js";
import { qedit } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";

type Answer = readonly [status: number, body: string];

const folder = temporaryFolder();
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const ABSENT: Answer = [404, '{"error_code":40403,"message":"not there"}'];
const progress = {
  ...{ job_id: "a", at: 1, worker: "w", state: "running" },
  ...{ stage: null, step: null, steps: null, eta: null },
};

/** A registry; gives its URL and what it was asked. */
async function registry(answer: (call: string, body: string, headers: object) => Answer) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      const call = `${request.method} ${request.url}`;
      asked.push(call);
      const [status, text] = answer(call, body, request.headers);
      response.writeHead(status).end(text);
    });
  }).listen(0, "127.0.0.1");
  servers.push(server);
  await new Promise((resolve) => server.once("listening", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** A registry that gives each subject an id, and their schemas. */
function working() {
  const ids = new Map<string, number>();
  return registry((call, body) => {
    const [, id] = /^GET \/schemas\/ids\/(\d+)$/.exec(call) ?? [];
    if (id !== undefined) {
      const found = [...ids].find(([, each]) => each === Number(id));
      return found === undefined ? ABSENT : [200, JSON.stringify({ schema: found[0] })];
    }
    if (call.startsWith("PUT /config/")) return [200, body];
    const { schema } = JSON.parse(body) as { schema: string };
    if (!ids.has(schema) && call.endsWith("/versions")) ids.set(schema, 70_000 + ids.size);
    return ids.has(schema) ? [200, JSON.stringify({ id: ids.get(schema) })] : ABSENT;
  });
}

test("schemas are registered once, and messages are framed with their ids", async () => {
  const { url, asked } = await working();
  await expect(openAvroCodec(url)).rejects.toThrow("its schema is not registered");
  const { stdout } = await qedit(["kafka", "schemas", "register", "--schema-registry", url], { cwd: folder.path });
  expect(stdout).toContain("qedit.run.request.v1-value  70000");
  expect(asked).toContain("PUT /config/qedit.progress.v1-value");
  const codec = await openAvroCodec(url);
  const bytes = codec.encode("progress", progress);
  expect(bytes[0]).toBe(0);
  expect(bytes.readUInt32BE(1)).toBeGreaterThanOrEqual(70_000);
  expect(await codec.decode("progress", bytes)).toMatchObject(progress);
  // Those of writers without the registry are read as well.
  const plain = await openAvroCodec();
  expect(await codec.decode("progress", plain.encode("progress", progress))).toMatchObject(progress);
  await expect(plain.decode("progress", bytes)).rejects.toThrow("framed for a schema registry, and none is set");
});

test("a schema is asked for once, and an id that nobody knows is wrong for good", async () => {
  const { url, asked } = await working();
  await qedit(["kafka", "schemas", "register", "--schema-registry", url], { cwd: folder.path });
  const codec = await openAvroCodec(url);
  const bytes = codec.encode("progress", progress);
  await codec.decode("progress", bytes);
  await codec.decode("progress", bytes);
  expect(asked.filter((call) => call.startsWith("GET /schemas/ids/"))).toHaveLength(1);
  bytes.writeUInt32BE(9, 1);
  await expect(codec.decode("progress", bytes)).rejects.toMatchObject({
    code: "QEDIT_E_USAGE",
    message: expect.stringContaining("has no schema 9"),
  });
});

test("a registry that is away, or says nonsense, is a fault that passes; its password is not shown", async () => {
  const nonsense: readonly Answer[] = [
    [500, "{}"],
    [200, "<html>"],
    [404, "<html>"],
    [401, '{"error_code":401,"message":"no"}'],
    [302, "{}"],
    [200, '{"schema":"{"}'],
  ];
  for (const answer of nonsense) {
    const { url } = await registry(() => answer);
    const secret = url.replace("//", "//me:secret@");
    const own = new SchemaRegistry(secret);
    const error = await own.schemaOf(7).catch((each: unknown) => each);
    expect(error).toMatchObject({ code: "QEDIT_E_NETWORK" });
    expect(`${(error as Error).message}`).not.toContain("secret");
  }
  await expect(new SchemaRegistry("http://127.0.0.1:9").schemaOf(7)).rejects.toMatchObject({ code: "QEDIT_E_NETWORK" });
  expect(() => new SchemaRegistry("ftp://me:secret@x")).toThrow(expect.objectContaining({ code: "QEDIT_E_USAGE" }));
});

test("a password goes as basic authentication, and a path in the URL is kept", async () => {
  let sent: object = {};
  const { url, asked } = await registry((_, __, headers) => {
    sent = headers;
    return [200, JSON.stringify({ schema: '"string"' })];
  });
  const own = new SchemaRegistry(`${url.replace("//", "//me:a%20b@")}/apis/ccompat/v7`);
  expect(await own.schemaOf(1)).toBe("string");
  expect(asked).toEqual(["GET /apis/ccompat/v7/schemas/ids/1"]);
  expect(sent).toMatchObject({ authorization: `Basic ${Buffer.from("me:a b").toString("base64")}` });
});

test("schemas of a registry that mean harm are refused as no message", async () => {
  const names = "abcdefghijklmnopqrstuvwxyz";
  const leaf = { type: "record", name: "leaf", fields: [] };
  const bomb = [...names].reduce<object>(
    (inner, name, index) => ({
      ...{ type: "record", name },
      fields: [
        { name: "x", type: inner },
        { name: "y", type: index === 0 ? "leaf" : names[index - 1] },
      ],
    }),
    leaf,
  );
  const hostile = [
    bomb,
    { type: "record", name: "loop", fields: [{ name: "x", type: "loop" }] },
    "string",
    7,
    null,
    {},
  ];
  for (const schema of hostile) {
    const { url } = await registry((call) =>
      call.startsWith("GET") ? [200, JSON.stringify({ schema: JSON.stringify(schema) })] : [200, '{"id":1}'],
    );
    const codec = await openAvroCodec(url);
    const start = performance.now();
    await expect(codec.decode("progress", Buffer.from([0, 0, 0, 0, 7]))).rejects.toMatchObject({
      code: "QEDIT_E_USAGE",
    });
    expect(performance.now() - start).toBeLessThan(2000);
  }
});
