// Memory that one run of a graph takes beside its weights, by doing what ONNX Runtime does: the order of the nodes, the buffers its
// planner lets them share, and the arena they come from. onnxruntime/core/framework/allocation_planner.cc (1.29).
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
  /** Claims that what depends on weights alone was computed when the session opened. */
  readonly isFolded: boolean;
  /** Bytes an operator takes for itself while it runs. */
  readonly scratch: (node: Node, shape: ShapeOf) => number;
}

/** Memory of one run beside weights and what it is fed, in bytes. */
export interface RunMemory {
  /** Most that buffers hold at a time. */
  readonly live: number;
  /** What of the arena was ever written to. */
  readonly touched: number;
  /** What the arena took from the device. */
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

// Marks the outputs of a node that reads weights alone as weights.
function isOfWeights({ inputs, outputs }: Node, weights: Set<string>): boolean {
  const isFixed = inputs.every((name) => name === "" || weights.has(name));
  if (isFixed) for (const name of outputs) weights.add(name);
  return isFixed;
}

/** A buffer: the value it was made for, and the first and last node that use it, or a value that shares it. */
interface Buffer {
  readonly name: string;
  readonly first: number;
  last: number;
}

/** Operators whose result takes the place of an input that nobody reads afterwards. */
const IN_PLACE = ["Add", "Sub", "Mul", "Div", "Sqrt", "Clip", "Cast", "Identity"];

interface Values {
  /** Names of values that lie outside the arena. */
  readonly given: ReadonlySet<string>;
  /** Equal for values whose buffers can be exchanged: by type and names of dimensions, since lengths are not known when it is planned. */
  readonly kind: (name: string) => string;
}

// The planner reuses a buffer of the same kind that nobody reads any more; it is not given back in between.
function sharedBuffers(order: readonly Node[], { given, kind }: Values): readonly Buffer[] {
  const reads = new Map<string, number>();
  for (const name of order.flatMap(({ inputs }) => inputs)) reads.set(name, (reads.get(name) ?? 0) + 1);
  const bufferOf = new Map<string, Buffer>();
  const left = new Map<Buffer, number>();
  const free: Buffer[] = [];
  const all: Buffer[] = [];

  const dying = ({ operator, inputs, outputs }: Node): Buffer | undefined => {
    if (operator === "Reshape") return bufferOf.get(inputs[0]!);
    if (!IN_PLACE.includes(operator)) return undefined;
    const input = inputs.find(
      (name) => bufferOf.has(name) && left.get(bufferOf.get(name)!) === 1 && kind(name) === kind(outputs[0]!),
    );
    return input === undefined ? undefined : bufferOf.get(input);
  };
  const released = (name: string): Buffer | undefined => {
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
      const buffer = dying(node) ?? released(name) ?? { name, first: index, last: index };
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
  let [held, live] = [0, 0];
  order.forEach((node, index) => {
    for (const buffer of starting.get(index) ?? []) {
      chunks.set(buffer, arena.allocate(bytes(buffer.name)));
      held += bytes(buffer.name);
    }
    const own = scratch(node);
    if (own > 0) arena.release(arena.allocate(own));
    live = Math.max(live, held + own);
    for (const buffer of ending.get(index) ?? []) {
      arena.release(chunks.get(buffer)!);
      held -= bytes(buffer.name);
    }
  });
  return { live, touched: arena.touched, reserved: arena.reserved };
}

function grouped(buffers: readonly Buffer[], key: (buffer: Buffer) => number): ReadonlyMap<number, readonly Buffer[]> {
  const groups = new Map<number, Buffer[]>();
  for (const buffer of buffers) groups.set(key(buffer), [...(groups.get(key(buffer)) ?? []), buffer]);
  return groups;
}
