// Messages in Avro: the schemas that are in the package, their compatibility, and bytes that mean harm.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import avro from "avsc";
import { describe, expect, test } from "vitest";
import { fingerprintOf, openAvroCodec, releasedSchemas } from "../../../src/server/kafka/avro-codec.js";
import { type AvroSchema, avroSchemas, SCHEMA_NAMES } from "../../../src/server/kafka/avro-schemas.js";
import type { RunRequest } from "../../../src/server/kafka/kafka-messages.js";

const SCHEMAS = fileURLToPath(new URL("../../../src/server/kafka/schemas/", import.meta.url));
const typeOf = (schema: AvroSchema) => avro.Type.forSchema(schema as avro.Schema);
const codec = await openAvroCodec();

const parameters = Object.fromEntries(
  (avroSchemas()["run.request"] as { fields: { name: string; type: { fields: { name: string }[] } }[] }).fields
    .find(({ name }) => name === "parameters")!
    .type.fields.map(({ name }) => [name, null]),
);

const request: RunRequest = {
  envelope: {
    ...{ job_id: "job-1", workflow: ["run"], cursor: 0, attempt: 1, created_at: 1_790_000_000_000 },
    ...{ traceparent: null, reply_to: null },
  },
  images: [
    { name: "cat.jpg", data: Buffer.from("inline") },
    { name: "rocket.jpg", data: { uri: "file:///store/ab/abc", sha256: "ab".repeat(32), size: 7 } },
  ],
  mask: null,
  parameters: { ...parameters, prompt: "make it sepia", steps: 4, cfg: 1.5, seed: "18446744073709551615" },
};

/** A number as Avro writes it. */
const long = (value: number) => typeOf("long").toBuffer(value);
const header = codec.encode("run.request", request).subarray(0, 10);

describe.each(SCHEMA_NAMES)("%s", (name) => {
  // `npx vitest run test/server/kafka/avro-codec.test.ts -u` writes them.
  test("is in the package as the table of parameters makes it", async () => {
    const text = `${JSON.stringify(avroSchemas()[name], null, 2)}\n`;
    await expect(text).toMatchFileSnapshot(`${SCHEMAS}${name}.v1.avsc`);
  });

  test("reads what every released version wrote", () => {
    const released = releasedSchemas().filter((each) => each.name === name);
    for (const { schema } of released)
      expect(() => typeOf(avroSchemas()[name]).createResolver(typeOf(schema))).not.toThrow();
  });
});

test("a released version may lack schemas that came later, and is held against those that it has", () => {
  const names = releasedSchemas().map(({ version, name }) => `${version} ${name}`);
  expect(names).toEqual(["0.1.0 run.request", "0.1.0 run.response", "0.1.0 progress", "0.1.0 error"]);
});

test("a field that is added without a default would be noticed", () => {
  const { fields, ...rest } = avroSchemas().progress as { fields: object[] };
  const stricter = { ...rest, fields: [...fields, { name: "needed", type: "string" }] };
  const [released] = releasedSchemas().filter(({ name }) => name === "progress");
  expect(() => typeOf(stricter).createResolver(typeOf(released!.schema))).toThrow();
});

test("a request comes back as it was written, with pictures inside and by reference", async () => {
  const read = await codec.decode("run.request", codec.encode("run.request", request));
  expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(JSON.stringify(request)));
});

test("a request for a stage comes back as it was written, with artifacts and without pictures", async () => {
  const reference = { uri: "file:///store/ab/abc", sha256: "ab".repeat(32), size: 7 };
  const artifacts = [{ kind: "latents", file: reference }];
  const mask = { name: "mask.png", data: Buffer.from("mask") };
  const stage = { ...request, images: [], mask, artifacts, settings: '{"steps":4}', seconds: { "encode-image": 0.25 } };
  const read = await codec.decode("sample.request", codec.encode("sample.request", stage));
  expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(JSON.stringify(stage)));
  const other = codec.decode("decode.request", codec.encode("sample.request", stage));
  await expect(other).rejects.toThrow(/none of this version/);
});

test("messages of a released version are read", async () => {
  const { schema } = releasedSchemas().find(({ name }) => name === "error")!;
  const type = typeOf(schema);
  const error = { code: "QEDIT_E_IMAGE", message: "no picture", hint: null, retryable: false };
  const bytes = Buffer.concat([Buffer.from([0xc3, 0x01]), fingerprintOf(type), type.toBuffer(error)]);
  expect({ ...(await codec.decode("error", bytes)) }).toEqual(error);
});

test("the fingerprint of a schema is Avro's CRC-64", () => {
  // From Avro's own tests, share/test/data/schema-tests.txt: the fingerprint of "null" and "string" as signed integers.
  expect(fingerprintOf(typeOf("null")).readBigInt64LE()).toBe(7195948357588979594n);
  expect(fingerprintOf(typeOf("string")).readBigInt64LE()).toBe(-8142146995180207161n);
});

test.each([
  ["nothing", Buffer.alloc(0), /does not begin/],
  ["garbage", Buffer.from("garbage, and a lot of it"), /does not begin/],
  ["the framing of a registry", Buffer.from([0, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6]), /framed for a schema registry/],
  ["an unknown schema", Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.alloc(8, 7)]), /fingerprint 0707/],
  ["a message that is cut off", codec.encode("run.request", request).subarray(0, 60), /ends too early/],
  [
    "bytes behind a message",
    Buffer.concat([codec.encode("run.request", request), Buffer.from("x")]),
    /1 bytes too many/,
  ],
])("%s is refused as no message", async (_, bytes, reason) => {
  await expect(codec.decode("run.request", bytes)).rejects.toThrow(reason);
});

test("a list that claims 2^40 entries is refused at once, without memory for them", async () => {
  const bomb = Buffer.concat([header, long(3), Buffer.from("job"), long(2 ** 40), Buffer.from("run")]);
  const start = performance.now();
  await expect(codec.decode("run.request", bomb)).rejects.toThrow(/within a list of 1099511627776/);
  expect(performance.now() - start).toBeLessThan(1000);
});

test("every cut and every changed byte of a message is refused or read, and nothing else happens", async () => {
  const bytes = codec.encode("run.request", request);
  for (let index = 0; index < bytes.length; index++) {
    const changed = Buffer.from(bytes);
    changed[index]! ^= 0xff;
    for (const each of [bytes.subarray(0, index), changed]) {
      try {
        await codec.decode("run.request", each);
      } catch (error) {
        expect(error).toMatchObject({ code: "QEDIT_E_USAGE" });
      }
    }
  }
});

test("the file of a schema is plain JSON", () => {
  expect(JSON.parse(readFileSync(`${SCHEMAS}run.request.v1.avsc`, "utf8"))).toEqual(avroSchemas()["run.request"]);
});
