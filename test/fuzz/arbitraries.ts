// Hostile variants of valid files: bytes that are damaged, and JSON documents whose values are exchanged.
import fc from "fast-check";

/** One change of bytes; `at` is a share of their length. */
interface Damage {
  readonly kind: "set" | "cut" | "insert" | "repeat" | "zero";
  readonly at: number;
  readonly length: number;
  readonly value: number;
}

const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom("set", "cut", "insert", "repeat", "zero"),
  at: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 0.02, noNaN: true })),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 4096 })),
  value: fc.integer({ min: 0, max: 255 }),
});

/** The bytes with up to eight changes. */
export function damaged(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  return fc.array(damage, { minLength: 1, maxLength: 8 }).map((changes) => changes.reduce(withDamage, bytes));
}

function withDamage(bytes: Uint8Array, { kind, at, length, value }: Damage): Uint8Array {
  const start = Math.floor(at * bytes.length);
  const [before, part, after] = [bytes.subarray(0, start), bytes.slice(start, start + length), bytes.subarray(start)];
  if (kind === "cut") return before;
  if (kind === "insert") return Buffer.concat([before, new Uint8Array(length).fill(value), after]);
  if (kind === "repeat") return Buffer.concat([before, part, after]);
  const changed = Uint8Array.from(bytes);
  if (kind === "zero") changed.fill(0, start, start + length);
  else if (start < changed.length) changed[start] = value;
  return changed;
}

/** Values that programs stumble over. */
const nasty: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    ...[
      null,
      true,
      -1,
      0.5,
      2 ** 31,
      2 ** 53,
      1e308,
      -0,
      "",
      "..",
      "../../etc/passwd",
      "\u001b[2J",
      "\ud800",
      "__proto__",
    ],
    ...["NaN", "1e999", "x".repeat(5000), [], {}, [[]], { toString: 5 }, { length: -1 }, { __proto__: null }],
    ...[[1e15, 1e15], [-1], [0], [2 ** 40, 2 ** 40], [0.5], ["1"], Array(2000).fill(1), { a: { a: { a: { a: {} } } } }],
  ),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.integer(),
);

/** One change of a document; `place` chooses the value that is changed. */
interface Change {
  readonly kind: "replace" | "remove" | "rename" | "add";
  readonly place: number;
  readonly name: string;
  readonly value: unknown;
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("replace", "replace", "replace", "remove", "rename", "add"),
  place: fc.nat(),
  name: fc.oneof(
    fc.constantFrom("__proto__", "constructor", "toString", "length", "", "a/b", "\u001b[2J", "__metadata__"),
    fc.string({ unit: "binary", maxLength: 12 }),
  ),
  value: nasty,
});

/** The JSON document with up to six changes, as text. */
export function altered(document: unknown): fc.Arbitrary<string> {
  return fc
    .array(change, { minLength: 1, maxLength: 6 })
    .map((changes) => JSON.stringify(changes.reduce(withChange, document)) ?? "null");
}

function withChange(document: unknown, { kind, place, name, value }: Change): unknown {
  const root = { document: structuredClone(document) };
  const places: [Record<string, unknown>, string][] = [];
  const visit = (parent: Record<string, unknown>, key: string) => {
    places.push([parent, key]);
    const child = parent[key];
    if (typeof child === "object" && child !== null)
      for (const each of Object.keys(child)) visit(child as Record<string, unknown>, each);
  };
  visit(root, "document");
  const [parent, key] = places[place % places.length]!;
  const set = (to: Record<string, unknown>, at: string, given: unknown) =>
    Object.defineProperty(to, at, { value: given, enumerable: true, configurable: true, writable: true });
  if (kind === "replace") set(parent, key, value);
  else if (kind === "add" && Array.isArray(parent[key])) set(parent, key, [...parent[key].slice(0, place % 9), value]);
  else if (kind === "add" && typeof parent[key] === "object" && parent[key] !== null)
    set(parent[key] as Record<string, unknown>, name, value);
  else if (parent !== root && !Array.isArray(parent)) {
    if (kind === "rename") set(parent, name, parent[key]);
    delete parent[key];
  }
  return root.document;
}

/** A .safetensors file of a header as text, with a length that is sometimes wrong, before some data. */
export function safetensorsOf(header: fc.Arbitrary<string>, data: Uint8Array): fc.Arbitrary<Uint8Array> {
  const offBy = fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -50, max: 50 }) },
  );
  const kept = fc.oneof(
    { weight: 4, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
  );
  return fc.tuple(header, offBy, kept).map(([text, wrong, share]) => {
    const json = Buffer.from(text);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Math.max(0, json.length + wrong)));
    return Buffer.concat([length, json, data.subarray(0, Math.floor(data.length * share))]);
  });
}
