// Running a graph of one or a few nodes on the CPU, so that it can stand beside plain JavaScript.
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import type { Shape } from "../../src/graph/types.js";
import type { Value } from "../../src/graph/value.js";
import { elementCount, float32, type Tensor, type Tensors } from "../../src/std/tensor.js";

/** float32 arithmetic of one or two operations, relative to numbers of about 1. */
const TOLERANCE = 1e-6;

/** A float32 tensor of unlike numbers around 0, a different one for each seed. */
export function numbers(shape: readonly number[], seed = 1): Tensor<"float32"> {
  const data = Float32Array.from({ length: elementCount(shape) }, (_, i) => Math.sin(1 + seed * 3.7 + i * 1.3) * 1.5);
  return float32(shape, data);
}

/** What a value of the graph is at run time, given the inputs; also holds the shape that the graph inferred against the real one. */
export async function evaluate(
  feeds: Tensors,
  build: (inputs: Readonly<Record<string, Value>>, graph: Graph) => Value | readonly Value[],
  shapes: Readonly<Record<string, Shape>> = {},
): Promise<Tensor[]> {
  const graph = new Graph("test");
  const types = { float32: "f32", int32: "i32", int64: "i64", uint8: "u8" } as const;
  const inputs = Object.fromEntries(
    Object.entries(feeds).map(([name, { type, shape }]) => [
      name,
      graph.input(name, types[type], shapes[name] ?? shape),
    ]),
  );
  const values = [build(inputs, graph)].flat() as Value[];
  values.forEach((value, index) => graph.output(`out${index}`, value));
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
  const outputs = await withSession(engine, await modelOf(graph, "none"), (session) => session.run(feeds));
  return values.map((value, index) => {
    const output = outputs[`out${index}`]!;
    const wrong =
      value.shape.length !== output.shape.length ||
      value.shape.some((dim, axis) => typeof dim === "number" && dim !== output.shape[axis]);
    if (wrong) throw new Error(`inferred [${value.shape.join(", ")}], ran to [${output.shape.join(", ")}]`);
    return output;
  });
}

/** The only result of a graph, as evaluate gives it. */
export async function evaluateOne(...args: Parameters<typeof evaluate>): Promise<Tensor> {
  return (await evaluate(...args))[0]!;
}

/** The element of a tensor at an index of as many numbers as it has axes. */
export function at({ shape, data }: Tensor, index: readonly number[]): number {
  return Number(data[index.reduce((flat, each, axis) => flat * shape[axis]! + each, 0)]);
}

/** A tensor made by a formula over indices. */
export function formula(shape: readonly number[], element: (index: readonly number[]) => number): Tensor<"float32"> {
  const data = Float32Array.from({ length: elementCount(shape) }, (_, flat) => {
    const index = shape.map(() => 0);
    for (let axis = shape.length - 1, rest = flat; axis >= 0; axis--) {
      index[axis] = rest % shape[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    return element(index);
  });
  return float32(shape, data);
}

/** 0 + 1 + … of a formula. */
export function sum(count: number, term: (index: number) => number): number {
  return Array.from({ length: count }, (_, index) => term(index)).reduce((a, b) => a + b, 0);
}

/** What is wrong between two float32 tensors beyond the tolerance; undefined when nothing is. */
export function difference(found: Tensor, wanted: Tensor, tolerance = TOLERANCE): string | undefined {
  if (found.type !== wanted.type || found.shape.join() !== wanted.shape.join()) {
    return `found ${found.type}[${found.shape.join(", ")}], wanted ${wanted.type}[${wanted.shape.join(", ")}]`;
  }
  for (let i = 0; i < wanted.data.length; i++) {
    const [a, b] = [Number(found.data[i]), Number(wanted.data[i])];
    if (!(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)))) return `element ${i}: found ${a}, wanted ${b}`;
  }
  return undefined;
}
