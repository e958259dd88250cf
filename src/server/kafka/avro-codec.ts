// Messages as bytes. Without a registry: Avro's single-object encoding, which is a marker, the fingerprint of the writer's schema, the record; the schemas
// are in the package. https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding. With one: Confluent's framing, which is a zero, the id of
// the schema in the registry, the record. https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format

import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Type } from "avsc";
import { QeditError } from "../../std/errors.js";
import { packageFile } from "../../std/package-files.js";
import { checkAvro } from "./avro-bounds.js";
import { type AvroSchema, avroSchemas, SCHEMA_NAMES, type SchemaName } from "./avro-schemas.js";
import type { Messages } from "./kafka-messages.js";
import { optionalPackage } from "./optional-package.js";
import { REGISTERED_NAMES, SchemaRegistry } from "./schema-registry.js";

/** Writes and reads messages. */
export interface AvroCodec {
  readonly encode: <Name extends SchemaName>(name: Name, message: Messages[Name]) => Buffer;
  /** Rejects with QEDIT_E_USAGE for bytes that are no such message, with QEDIT_E_NETWORK when the registry that knows their schema does not answer. */
  readonly decode: <Name extends SchemaName>(name: Name, bytes: Buffer) => Promise<Messages[Name]>;
}

interface Writer {
  readonly type: Type;
  readonly schema: AvroSchema;
}

const MARKER = Buffer.from([0xc3, 0x01]);
/** Bytes before the record: marker and fingerprint, or zero and id. */
const HEADER = MARKER.length + 8;
const REGISTRY_HEADER = 5;
const RELEASED = packageFile("server/kafka/schemas/released/");

/**
 * The codec for the schemas as they are, which also reads messages of released ones; with a registry it writes its framing, and reads both. Throws
 * QEDIT_E_USAGE when the package is missing or the schemas are not registered, QEDIT_E_NETWORK when the registry does not answer.
 */
export async function openAvroCodec(registryUrl?: string): Promise<AvroCodec> {
  const { default: avro } = await optionalPackage("avsc", () => import("avsc"));
  const registry = registryUrl === undefined ? undefined : new SchemaRegistry(registryUrl);
  const current = avroSchemas();
  const known = new Map(SCHEMA_NAMES.map((name) => [name, knownOf(name, current[name], avro.Type)] as const));
  const heads = new Map<SchemaName, Buffer>(
    [...known].map(([name, { fingerprint }]) => [name, Buffer.concat([MARKER, fingerprint])]),
  );
  if (registry !== undefined)
    for (const name of REGISTERED_NAMES) heads.set(name, headOf(await registry.idOf(name, current[name])));

  const writers = new Map<number, Writer>();
  // A schema from the registry is made a type once.
  const registered = async (bytes: Buffer): Promise<Writer> => {
    const id = bytes.readUInt32BE(1);
    const found = writers.get(id);
    if (found !== undefined) return found;
    const schema = await registry!.schemaOf(id);
    const writer = { schema, type: avro.Type.forSchema(schema as Parameters<typeof avro.Type.forSchema>[0]) };
    writers.set(id, writer);
    return writer;
  };
  return {
    encode(name, message) {
      try {
        return Buffer.concat([heads.get(name)!, known.get(name)!.reader.toBuffer(message)]);
      } catch (error) {
        throw new QeditError("QEDIT_E_USAGE", `Cannot write ${name}: ${(error as Error).message}`, { cause: error });
      }
    },
    async decode(name, bytes) {
      const { reader, writers: released } = known.get(name)!;
      const isRegistered = bytes[0] === 0 && bytes.length >= REGISTRY_HEADER;
      if (isRegistered && registry === undefined)
        throw unreadable(name, "it is framed for a schema registry, and none is set");
      if (!isRegistered && (!bytes.subarray(0, MARKER.length).equals(MARKER) || bytes.length < HEADER))
        throw unreadable(name, "it does not begin as Avro's single-object encoding");
      try {
        const writer = isRegistered ? await registered(bytes) : writerOf(bytes, released);
        const body = bytes.subarray(isRegistered ? REGISTRY_HEADER : HEADER);
        checkAvro(writer.schema, body);
        return reader.fromBuffer(body, reader.createResolver(writer.type)) as Messages[typeof name];
      } catch (error) {
        if (error instanceof QeditError) throw error;
        throw unreadable(name, (error as Error).message);
      }
    },
  };
}

function headOf(id: number): Buffer {
  const head = Buffer.alloc(REGISTRY_HEADER);
  head.writeUInt32BE(id, 1);
  return head;
}

function writerOf(bytes: Buffer, released: ReadonlyMap<string, Writer>): Writer {
  const id = bytes.subarray(MARKER.length, HEADER).toString("hex");
  const writer = released.get(id);
  if (writer === undefined) throw new Error(`its schema (fingerprint ${id}) is none of this version`);
  return writer;
}

/** The schemas that were released, by version and file name; a version may lack those that came later. */
export function releasedSchemas(): readonly {
  readonly version: string;
  readonly name: SchemaName;
  readonly schema: AvroSchema;
}[] {
  return readdirSync(RELEASED).flatMap((version) =>
    SCHEMA_NAMES.flatMap((name) => {
      const file = new URL(`${version}/${name}.v1.avsc`, RELEASED);
      if (!existsSync(file)) return [];
      return [{ version, name, schema: JSON.parse(readFileSync(file, "utf8")) as AvroSchema }];
    }),
  );
}

function knownOf(name: SchemaName, current: AvroSchema, { forSchema }: typeof Type) {
  const typeOf = (schema: AvroSchema) => forSchema(schema as Parameters<typeof forSchema>[0]);
  const reader = typeOf(current);
  const released = releasedSchemas().flatMap((each) => (each.name === name ? [each.schema] : []));
  const writers = new Map(
    [current, ...released].map((schema) => {
      const type = typeOf(schema);
      return [fingerprintOf(type).toString("hex"), { type, schema }] as const;
    }),
  );
  return { reader, fingerprint: fingerprintOf(reader), writers };
}

/** CRC-64-AVRO (Rabin) of a schema's canonical form, little-endian. */
export function fingerprintOf(type: Type): Buffer {
  let fingerprint = EMPTY;
  for (const byte of Buffer.from(JSON.stringify(type.schema()), "utf8"))
    fingerprint = (fingerprint >> 8n) ^ TABLE[Number((fingerprint ^ BigInt(byte)) & 0xffn)]!;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(fingerprint);
  return bytes;
}

const EMPTY = 0xc15d213aa4d7a795n;
const TABLE = Array.from({ length: 256 }, (_, index) => {
  let value = BigInt(index);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (EMPTY & -(value & 1n) & 0xffffffffffffffffn);
  return value;
});

function unreadable(name: SchemaName, reason: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot read the message as ${name}: ${reason}`, {
    hint: `\`qedit kafka schemas print ${name}\` shows what is wanted`,
  });
}
