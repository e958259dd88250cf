// 8-bit floats in a graph, as numbers that their bytes are looked up in.
import { fromFloat8E4M3, fromFloat8E5M2 } from "../std/half-floats.js";
import { forEach } from "./control-flow.js";
import type { DType } from "./types.js";
import type { NodeBuilder, Value } from "./value.js";

/** Values that a byte may have. */
const BYTES = 256;
/** Most bytes that are looked up at a time, where the length divides so: what is made of them between stays in a processor's cache. */
const CHUNK = 2 ** 18;
/** GatherElements gives each thread whole rows: a chunk is cut into so many, or into a smaller power of two. */
const ROWS = 2 ** 5;

const NUMBERS = { f8_e4m3: fromFloat8E4M3, f8_e5m2: fromFloat8E5M2 } as const;

type Float8 = keyof typeof NUMBERS;

/** Whether the elements are 8-bit floats. */
export function isFloat8(dtype: DType): dtype is Float8 {
  return dtype in NUMBERS;
}

/** 8-bit floats of a type, as their bytes: a weight u8 of the shape that is asked for, or of its own. */
export interface Float8Bytes {
  readonly dtype: Float8;
  readonly shape: readonly number[];
  readonly bytes: (shape?: readonly number[]) => Value;
}

/** What each byte stands for in this type, f32 [256]. */
export function float8Numbers(graph: NodeBuilder, dtype: Float8): Value {
  const numbers = NUMBERS[dtype](Uint8Array.from({ length: BYTES }, (_, byte) => byte));
  return graph.constant("f32", [BYTES], [...numbers]);
}

/**
 * 8-bit floats as float32: what Cast gives, to the bit, by all threads of a CPU, where Cast takes one, and with less processor time (bench/README.md).
 * In chunks, because GatherElements takes places of 32 bits: of a whole weight they would take as much memory as its numbers.
 */
export function lookedUp({ bytes, dtype, shape }: Float8Bytes): Value {
  const length = shape.reduce((product, dim) => product * dim, 1);
  let chunks = 1;
  while (length / chunks > CHUNK && length % (2 * chunks) === 0) chunks *= 2;
  let rows = ROWS;
  while ((length / chunks) % rows !== 0) rows /= 2;
  const stored = bytes([chunks, rows, length / chunks / rows]);
  const table = stored.graph.once(`${rows} times the numbers of ${dtype}`, () =>
    float8Numbers(stored.graph, dtype).reshape([1, BYTES]).expand([rows, BYTES]),
  );
  return forEach(stored, (chunk) => gatherElements(table, chunk.cast("i32"))).reshape(shape);
}

// Of each row of a table [rows, n], the elements at places i32 [rows, m]: [rows, m].
function gatherElements(table: Value, places: Value): Value {
  const options = { shapes: [places.shape], dtype: table.dtype, attributes: { axis: { int: 1 } } };
  return table.graph.node("GatherElements", [table, places], options)[0]!;
}
