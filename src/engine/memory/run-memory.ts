// Memory of one run of a graph beside its weights, as ONNX Runtime allocates it: the order of the nodes, the buffers that its
// planner lets them share, and the arena that they come from. onnxruntime/core/framework/allocation_planner.cc (1.29).
import type { Graph } from "../../graph/graph.js";
import { concrete, count, type Lengths, shapesOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";
import { ELEMENT } from "../../graph/types.js";
import { Arena, type Chunk } from "./arena.js";
import { executionOrder } from "./execution-order.js";

/** Shape of a value by its name. */
export type ShapeOf = (name: string) => readonly number[];

/** How a graph is run. */
export interface RunOptions {
  /** Whether constants are folded: nodes that depend on weights alone were computed when the session opened. */
  readonly isFolded: boolean;
  /** Bytes of an operator's scratch buffer. */
  readonly scratch: (node: Node, shape: ShapeOf) => number;
}

/** Memory of one run beside weights and inputs, in bytes. */
export interface RunMemory {
  /** Peak of the buffers in use at a time. */
  readonly live: number;
  /** The part of the arena that was ever written to. */
  readonly touched: number;
  /** The whole arena, as allocated on the device. */
  readonly reserved: number;
}

/** Memory of one run at these lengths. */
export function runMemory(graph: Graph, lengths: Lengths, { isFolded, scratch }: RunOptions): RunMemory {
  const values = shapesOf(graph);
  const shape = (name: string) => concrete(values, name, lengths);
  const given = new Set([...graph.externals.keys(), ...graph.constants.keys()]);
  const order = executionOrder(graph).filter((node) => !(isFolded && isOfWeights(node, given)));
  for (const name of graph.inputs.keys()) given.add(name);
  const buffers = sharedBuffers(order, {
    given,
    kind: (name) => `${ELEMENT[values.get(name)!.dtype].bytes}[${values.get(name)!.shape.join()}]`,
  });
  const bytes = (name: string) => count(shape(name)) * ELEMENT[values.get(name)!.dtype].bytes;
  return simulate(order, { buffers, bytes, scratch: (node) => scratch(node, shape) });
}

// Whether a node reads weights alone; its outputs then count as weights.
function isOfWeights({ inputs, outputs }: Node, weights: Set<string>): boolean {
  const isFixed = inputs.every((name) => name === "" || weights.has(name));
  if (isFixed) for (const name of outputs) weights.add(name);
  return isFixed;
}

/** A buffer: the value that it was allocated for, and the first and last node that use it or a value that shares it. */
interface Buffer {
  readonly name: string;
  readonly first: number;
  last: number;
}

/** Operators that may write their result over an input that no later node reads. */
const IN_PLACE = ["Add", "Sub", "Mul", "Div", "Sqrt", "Clip", "Cast", "Identity"];

interface Values {
  /** Names of values outside the arena. */
  readonly given: ReadonlySet<string>;
  /** Equal for values that can share a buffer: element size and names of dimensions, since lengths are unknown when ONNX Runtime plans. */
  readonly kind: (name: string) => string;
}

// The planner reuses a buffer of the same kind that no later node reads, without freeing it in between.
function sharedBuffers(order: readonly Node[], { given, kind }: Values): readonly Buffer[] {
  const reads = new Map<string, number>();
  for (const name of order.flatMap(({ inputs }) => inputs)) reads.set(name, (reads.get(name) ?? 0) + 1);
  const bufferOf = new Map<string, Buffer>();
  const left = new Map<Buffer, number>();
  const free: Buffer[] = [];
  const all: Buffer[] = [];

  const overwritten = ({ operator, inputs, outputs }: Node): Buffer | undefined => {
    if (operator === "Reshape") return bufferOf.get(inputs[0]!);
    if (!IN_PLACE.includes(operator)) return undefined;
    const input = inputs.find(
      (name) => bufferOf.has(name) && left.get(bufferOf.get(name)!) === 1 && kind(name) === kind(outputs[0]!),
    );
    return input === undefined ? undefined : bufferOf.get(input);
  };
  const reused = (name: string): Buffer | undefined => {
    const index = free.findIndex((buffer) => kind(buffer.name) === kind(name));
    return index < 0 ? undefined : free.splice(index, 1)[0];
  };
  const use = (name: string, index: number, readings: number) => {
    const buffer = bufferOf.get(name);
    if (buffer === undefined) return;
    buffer.last = index;
    left.set(buffer, left.get(buffer)! - readings);
    if (left.get(buffer) === 0 && !free.includes(buffer)) free.unshift(buffer);
  };
  order.forEach((node, index) => {
    const isAlias = node.operator === "Reshape" && given.has(node.inputs[0]!);
    const outputs = node.outputs.filter((name) => name !== "");
    for (const name of isAlias ? [] : outputs) {
      const buffer = overwritten(node) ?? reused(name) ?? { name, first: index, last: index };
      if (!left.has(buffer)) all.push(buffer);
      bufferOf.set(name, buffer);
      left.set(buffer, (left.get(buffer) ?? 0) + (reads.get(name) ?? 0));
    }
    for (const name of node.inputs) use(name, index, 1);
    for (const name of outputs) use(name, index, 0);
  });
  return all;
}

interface Simulation {
  readonly buffers: readonly Buffer[];
  readonly bytes: (name: string) => number;
  readonly scratch: (node: Node) => number;
}

function simulate(order: readonly Node[], { buffers, bytes, scratch }: Simulation): RunMemory {
  const arena = new Arena();
  const chunks = new Map<Buffer, Chunk>();
  const starting = grouped(buffers, ({ first }) => first);
  const ending = grouped(buffers, ({ last }) => last);
  let [inUse, live] = [0, 0];
  order.forEach((node, index) => {
    for (const buffer of starting.get(index) ?? []) {
      chunks.set(buffer, arena.allocate(bytes(buffer.name)));
      inUse += bytes(buffer.name);
    }
    const own = scratch(node);
    if (own > 0) arena.release(arena.allocate(own));
    live = Math.max(live, inUse + own);
    for (const buffer of ending.get(index) ?? []) {
      arena.release(chunks.get(buffer)!);
      inUse -= bytes(buffer.name);
    }
  });
  return { live, touched: arena.touched, reserved: arena.reserved };
}

function grouped(buffers: readonly Buffer[], key: (buffer: Buffer) => number): ReadonlyMap<number, readonly Buffer[]> {
  const groups = new Map<number, Buffer[]>();
  for (const buffer of buffers) groups.set(key(buffer), [...(groups.get(key(buffer)) ?? []), buffer]);
  return groups;
}
