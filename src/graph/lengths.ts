// Graphs at concrete lengths: what their named dimensions stand for, and the shapes of their values in numbers.
import type { Graph } from "./graph.js";
import type { Dim, Shape } from "./types.js";
import type { Value } from "./value.js";

/** Lengths of a graph's named dimensions: `{ text: 250, target: 4096 }`. */
export type Lengths = Readonly<Record<string, number>>;

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

/** Shape and type of each value of a graph by its name: inputs, weights, constants and results. */
export function shapesOf(graph: Graph): ReadonlyMap<string, Pick<Value, "shape" | "dtype">> {
  const shapes = new Map<string, Pick<Value, "shape" | "dtype">>([
    ...graph.externals,
    ...graph.constants,
    ...graph.inputs,
  ]);
  for (const value of graph.values) shapes.set(value.name, value);
  return shapes;
}

/** Shape of a value in numbers. */
export function concrete(
  shapes: ReadonlyMap<string, { readonly shape: Shape }>,
  name: string,
  lengths: Lengths,
): number[] {
  const found = shapes.get(name);
  if (found === undefined) throw new Error(`internal: no value "${name}" in the graph`);
  return found.shape.map((dim) => lengthOf(dim, lengths));
}

/** Elements of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
