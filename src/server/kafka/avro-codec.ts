// Messages as bytes, in Avro's single-object encoding: a marker, the fingerprint of the writer's schema, the record. It needs no registry, because the
// schemas are in the package. https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Type } from "avsc";
import { QeditError } from "../../std/errors.js";
import { checkAvro } from "./avro-bounds.js";
import { type AvroSchema, avroSchemas, SCHEMA_NAMES, type SchemaName } from "./avro-schemas.js";
import type { Messages } from "./kafka-messages.js";
import { optionalPackage } from "./optional-package.js";

/** Writes and reads messages. */
export interface AvroCodec {
  readonly encode: <Name extends SchemaName>(name: Name, message: Messages[Name]) => Buffer;
  /** Throws QEDIT_E_USAGE for bytes that are no such message. */
  readonly decode: <Name extends SchemaName>(name: Name, bytes: Buffer) => Messages[Name];
}

const MARKER = Buffer.from([0xc3, 0x01]);
/** Bytes before the record. */
const HEADER = MARKER.length + 8;
const RELEASED = new URL("schemas/released/", import.meta.url);

/** The codec for the schemas as they are, which also reads messages of released ones. Throws QEDIT_E_USAGE when the package is missing. */
export async function openAvroCodec(): Promise<AvroCodec> {
  const { default: avro } = await optionalPackage("avsc", () => import("avsc"));
  const current = avroSchemas();
  const known = new Map(SCHEMA_NAMES.map((name) => [name, knownOf(name, current[name], avro.Type)] as const));
  return {
    encode(name, message) {
      const { reader, fingerprint } = known.get(name)!;
      try {
        return Buffer.concat([MARKER, fingerprint, reader.toBuffer(message)]);
      } catch (error) {
        throw new QeditError("QEDIT_E_USAGE", `Cannot write ${name}: ${(error as Error).message}`, { cause: error });
      }
    },
    decode(name, bytes) {
      const { reader, writers } = known.get(name)!;
      if (!bytes.subarray(0, MARKER.length).equals(MARKER) || bytes.length < HEADER)
        throw unreadable(name, "it does not begin as Avro's single-object encoding");
      const id = bytes.subarray(MARKER.length, HEADER).toString("hex");
      const writer = writers.get(id);
      if (writer === undefined) throw unreadable(name, `its schema (fingerprint ${id}) is none of this version`);
      const body = bytes.subarray(HEADER);
      try {
        checkAvro(writer.schema, body);
        return reader.fromBuffer(body, reader.createResolver(writer.type)) as Messages[typeof name];
      } catch (error) {
        throw unreadable(name, (error as Error).message);
      }
    },
  };
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
