// Memory of one run by arithmetic: every value from the node that makes it to the last one that reads it, at concrete lengths.
// An estimate: what operators take for themselves while they run, and how an allocator rounds, is not in it.
import type { Graph, Node } from "./graph.js";
import { ELEMENT, type Dim, type Shape } from "./types.js";

/** Lengths of a graph's named dimensions: `{ text: 250, target: 4096 }`. */
export type Lengths = Readonly<Record<string, number>>;

/** Operators whose result is their first input under another shape. */
const ALIASES = new Set(["Reshape", "Identity"]);
/** Operators that may write over an input of the same length which nobody reads after them. */
const IN_PLACE = new Set(["Add", "Sub", "Mul", "Div", "Max", "Sqrt", "Clip", "QuickGelu", "Gelu", "Cast"]);

interface Held {
  readonly bytes: number;
  /** Nodes that have still to read it, counted with those of its aliases. */
  readers: number;
}

/** Most bytes that values hold at a time in one run, with what is fed and given; weights are not counted, what becomes of them is. */
export function peakActivations(graph: Graph, lengths: Lengths): number {
  const values = new Map([...graph.values, ...graph.inputs.values()].map((value) => [value.name, bytesOf(value, lengths)]));
  const weights = new Set([...graph.externals.keys(), ...graph.constants.keys()]);
  const held = new Map<string, Held>();
  const owner = new Map<string, string>();
  const readers = countReaders(graph, owner);
  let [now, peak] = [0, 0];
  const hold = (name: string, bytes: number) => {
    held.set(name, { bytes, readers: readers.get(name) ?? 0 });
    now += bytes;
    peak = Math.max(peak, now);
  };
  for (const name of graph.inputs.keys()) hold(name, values.get(name)!);
  for (const { operator, inputs, outputs: all } of executionOrder(graph, weights)) {
    const outputs = all.filter((name) => name !== "");
    const read = inputs.map((name) => owner.get(name) ?? name).filter((name) => name !== "" && !weights.has(name));
    const dying = new Set(read.filter((name) => held.get(name)!.readers === read.filter((each) => each === name).length));
    const reused = IN_PLACE.has(operator) ? read.find((name) => dying.has(name) && held.get(name)!.bytes === values.get(outputs[0]!)) : undefined;
    if (reused !== undefined) now -= held.get(reused)!.bytes;
    if (!ALIASES.has(operator)) for (const name of outputs) hold(name, values.get(name)!);
    for (const name of read) held.get(name)!.readers -= 1;
    for (const name of dying) if (name !== reused && !graph.inputs.has(name)) now -= held.get(name)!.bytes;
    for (const name of outputs) if (held.get(name)?.readers === 0) now -= held.get(name)!.bytes;
  }
  return peak;
}

/** A dimension as a number; throws for a name without a length. */
export function lengthOf(dim: Dim, lengths: Lengths): number {
  if (typeof dim === "number") return dim;
  if (dim.includes("+")) return dim.split("+").reduce((sum, part) => sum + lengthOf(part, lengths), 0);
  return dim.split("*").reduce((product, part) => {
    const length = /^\d+$/.test(part) ? Number(part) : lengths[part];
    if (length === undefined) throw new Error(`internal: the dimension "${part}" has no length`);
    return product * length;
  }, 1);
}

function bytesOf({ shape, dtype }: { shape: Shape; dtype: keyof typeof ELEMENT }, lengths: Lengths): number {
  return shape.reduce<number>((bytes, dim) => bytes * lengthOf(dim, lengths), ELEMENT[dtype].bytes);
}

// By the value that owns the memory; graph outputs are read by the caller too, and so are never free.
function countReaders(graph: Graph, owner: Map<string, string>): Map<string, number> {
  const readers = new Map<string, number>();
  const ownerOf = (name: string) => owner.get(name) ?? name;
  for (const { operator, inputs, outputs } of graph.nodes) {
    if (ALIASES.has(operator)) owner.set(outputs[0]!, ownerOf(inputs[0]!));
    for (const name of inputs) readers.set(ownerOf(name), (readers.get(ownerOf(name)) ?? 0) + 1);
  }
  for (const name of graph.outputs.keys()) readers.set(ownerOf(name), (readers.get(ownerOf(name)) ?? 0) + 1);
  return readers;
}

// As they were added, with what reads weights alone moved to just before the first node that needs it.
function executionOrder(graph: Graph, weights: ReadonlySet<string>): Node[] {
  const waiting = new Map<string, Node>();
  const order: Node[] = [];
  const add = (node: Node) => {
    for (const name of node.inputs) {
      const widened = waiting.get(name);
      if (!widened) continue;
      waiting.delete(name);
      add(widened);
    }
    order.push(node);
  };
  for (const node of graph.nodes) {
    const isOfWeights = node.inputs.every((name) => name === "" || weights.has(name) || waiting.has(name));
    if (isOfWeights) for (const name of node.outputs) waiting.set(name, node);
    else add(node);
  }
  return order;
}
