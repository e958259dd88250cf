// Most bytes that one run of a graph has in buffers and workspaces at a time, beside its weights and what it is fed.
import type { Graph } from "../../graph/graph.js";
import { concrete, count, type Lengths, shapesOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";
import { ELEMENT } from "../../graph/types.js";
import { nodesOfWeights } from "../../graph/weight-nodes.js";
import type { ShapeOf } from "./kernel-workspaces.js";
import { WRITES_OVER_INPUT } from "./run-graph.js";

/** How a graph is run. */
export interface RunOptions {
  /** Whether what depends on weights alone is computed when the session opens. */
  readonly isFolded: boolean;
  /** Bytes that the kernel of a node allocates for itself while it runs. */
  readonly workspace: (node: Node, shape: ShapeOf) => number;
}

/**
 * Most bytes that are allocated at a time in one run at these lengths. ONNX Runtime gives the buffer of a value that is not read any more
 * to the next value of the same shape, and does not free it in between: every shape has as many buffers as it ever needs at a time, from the
 * first node that uses one to the last.
 */
export function liveBytes(graph: Graph, lengths: Lengths, { isFolded, workspace }: RunOptions): number {
  const values = shapesOf(graph);
  const shape = (name: string) => concrete(values, name, lengths);
  const elementBytes = (name: string) => ELEMENT[values.get(name)!.dtype].bytes;
  // By the names of dimensions: lengths are not known yet when ONNX Runtime assigns buffers.
  const kind = (name: string) => `${elementBytes(name)}[${values.get(name)!.shape.join()}]`;
  const order = runOrder(graph, { isFolded });
  const pools = bufferPools(order, kind).map(({ name, buffers, first, last }) => ({
    first,
    last,
    bytes: buffers * count(shape(name)) * elementBytes(name),
  }));
  const live = order.map((node, index) =>
    pools.reduce(
      (sum, { first, last, bytes }) => sum + (first <= index && index <= last ? bytes : 0),
      workspace(node, shape),
    ),
  );
  return Math.max(0, ...live);
}

// A weight is widened just before the first node that reads it.
function runOrder(graph: Graph, { isFolded }: Pick<RunOptions, "isFolded">): Node[] {
  const ofWeights = nodesOfWeights(graph);
  const makers = new Map([...ofWeights].flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const order = new Set<Node>();
  const add = (node: Node) => {
    const before = isFolded ? [] : node.inputs.flatMap((name) => makers.get(name) ?? []);
    for (const maker of before) add(maker);
    order.add(node);
  };
  for (const node of graph.nodes) if (!ofWeights.has(node)) add(node);
  return [...order];
}

/** The buffers of one shape. */
interface BufferPool {
  /** A value of this shape. */
  readonly name: string;
  readonly first: number;
  last: number;
  /** Buffers that hold a value now. */
  used: number;
  /** Buffers that held a value at a time, at most. */
  buffers: number;
}

function bufferPools(order: readonly Node[], kind: (name: string) => string): readonly BufferPool[] {
  const owners = bufferOwners(order);
  const buffersRead = ({ inputs }: Node) => new Set(inputs.flatMap((name) => owners.get(name) ?? []));
  const lastReader = new Map(order.flatMap((node) => [...buffersRead(node)].map((name) => [name, node] as const)));
  const pools = new Map<string, BufferPool>();
  const allocate = (node: Node, index: number) => {
    for (const name of node.outputs.filter((name) => owners.get(name) === name)) {
      const pool = pools.get(kind(name)) ?? { name, first: index, last: index, used: 0, buffers: 0 };
      pools.set(kind(name), pool);
      pool.last = index;
      pool.used += 1;
      pool.buffers = Math.max(pool.buffers, pool.used);
    }
  };
  const release = (node: Node, index: number) => {
    for (const name of buffersRead(node)) {
      const pool = pools.get(kind(name))!;
      pool.last = index;
      if (lastReader.get(name) === node) pool.used -= 1;
    }
  };
  order.forEach((node, index) => {
    const isInPlace = WRITES_OVER_INPUT.has(node.operator) || node.operator === "Identity";
    for (const step of isInPlace ? [release, allocate] : [allocate, release]) step(node, index);
  });
  return [...pools.values()];
}

// The value whose buffer each value is in: its own, or that of the input of a Reshape. Weights and what is fed have none.
function bufferOwners(order: readonly Node[]): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  for (const { operator, inputs, outputs } of order) {
    for (const name of outputs.filter((name) => name !== "")) {
      const owner = operator === "Reshape" ? owners.get(inputs[0]!) : name;
      if (owner !== undefined) owners.set(name, owner);
    }
  }
  return owners;
}
