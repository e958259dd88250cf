// Whether bytes hold a record of a schema, before a library reads it: a message of twenty bytes can say that a list has 2^50 entries, which
// readers of Avro make in memory before they notice.
import type { AvroSchema } from "./avro-schemas.js";

interface Shape {
  readonly type?: AvroSchema;
  readonly name?: string;
  readonly namespace?: string;
  readonly fields?: readonly { readonly type: AvroSchema }[];
  readonly items?: AvroSchema;
  readonly values?: AvroSchema;
  readonly symbols?: readonly string[];
  readonly size?: number;
}

/** Deepest records within records; those of qedit have four levels. */
const DEEPEST = 32;
/** Bytes of the longest variable-length integer of 64 bits. */
const LONGEST_INTEGER = 10;
/** Values that take no byte, as null: a schema of some lines can have 2^32 of them. */
const MOST_EMPTY = 100_000;

/** Throws unless the bytes are exactly one value of the schema. */
export function checkAvro(schema: AvroSchema, bytes: Uint8Array): void {
  const bounds = new Bounds(bytes);
  bounds.know(schema);
  bounds.value(schema, 0);
  if (bounds.position !== bytes.length) throw new Error(`${bytes.length - bounds.position} bytes too many`);
}

/** Bytes of the types that have always as many. */
const SIZES: Readonly<Record<string, number>> = { null: 0, boolean: 1, float: 4, double: 8 };

class Bounds {
  position = 0;
  #visits = 0;
  readonly #named = new Map<string, Shape>();

  constructor(private readonly bytes: Uint8Array) {}

  /** Learns the names of the types in a schema: where one is first spelled out, its list may be empty or its choice null. */
  know(schema: AvroSchema): void {
    if (typeof schema === "string") return;
    if (Array.isArray(schema)) {
      for (const each of schema as readonly AvroSchema[]) this.know(each);
      return;
    }
    const { name, type, fields = [], items, values } = schema as Shape;
    if (name !== undefined) this.#named.set(name, schema as Shape);
    const inner = [...fields.map((each) => each.type), type, items, values];
    for (const each of inner) if (each !== undefined) this.know(each);
  }

  value(schema: AvroSchema, depth: number): void {
    if (depth > DEEPEST) throw new Error("records stand too deep within others");
    this.#visits += 1;
    if (this.#visits > MOST_EMPTY + this.bytes.length) throw new Error("it has too many empty values");
    if (Array.isArray(schema)) this.value(this.#branch(schema as readonly AvroSchema[]), depth + 1);
    else if (typeof schema === "string") this.#primitive(schema, depth);
    else this.#shape(schema as Shape, depth);
  }

  #shape(shape: Shape, depth: number): void {
    if (shape.type === "record") for (const { type } of shape.fields!) this.value(type, depth + 1);
    else if (shape.type === "array") this.#blocks(() => this.value(shape.items!, depth + 1));
    else if (shape.type === "map")
      this.#blocks(() => {
        this.#primitive("string", depth);
        this.value(shape.values!, depth + 1);
      });
    else if (shape.type === "enum") this.#index(shape.symbols!.length);
    else if (shape.type === "fixed") this.#skip(shape.size!);
    else this.value(shape.type!, depth + 1);
  }

  #primitive(type: string, depth: number): void {
    const size = SIZES[type];
    if (size !== undefined) this.#skip(size);
    else if (type === "int" || type === "long") this.#integer();
    else if (type === "bytes" || type === "string") this.#skip(this.#integer());
    else this.value(this.#named.get(type.split(".").at(-1)!) as AvroSchema, depth + 1);
  }

  #branch(branches: readonly AvroSchema[]): AvroSchema {
    return branches[this.#index(branches.length)]!;
  }

  #index(length: number): number {
    const index = this.#integer();
    if (index < 0 || index >= length) throw new Error(`choice ${index} of ${length}`);
    return index;
  }

  #blocks(item: () => void): void {
    for (let count = this.#integer(); count !== 0; count = this.#integer()) {
      // A negative count is followed by the bytes of the block.
      if (count < 0) this.#integer();
      // Each entry has a byte at least.
      if (Math.abs(count) > this.bytes.length - this.position)
        throw new Error(`it ends within a list of ${Math.abs(count)}`);
      for (let left = Math.abs(count); left > 0; left--) item();
    }
  }

  #skip(length: number): void {
    if (length < 0 || length > this.bytes.length - this.position) throw new Error("it ends too early");
    this.position += length;
  }

  #integer(): number {
    let value = 0n;
    for (let index = 0; index < LONGEST_INTEGER; index++) {
      const byte = this.bytes[this.position + index];
      if (byte === undefined) throw new Error("it ends too early");
      value |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if (byte < 0x80) {
        this.position += index + 1;
        return Number((value >> 1n) ^ -(value & 1n));
      }
    }
    throw new Error("an integer has more than 64 bits");
  }
}
