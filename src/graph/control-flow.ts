// Control flow: graphs inside nodes, which read the weights and values of the graph around them.
// Operator schemas: onnx/docs/Operators.md (Loop, If and Scan, opset 23).
import type { NamedTensor } from "./node.js";
import { type Shape, sameShape, shapeText } from "./types.js";
import type { NodeBuilder, Value } from "./value.js";

/** A value that goes from one iteration to the next. */
export interface Carried {
  readonly initial: Value;
  /** Its shape in an iteration, where it changes from one to the next: with a name of its own for each length that does. That of `initial` unless given. */
  readonly shape?: Shape;
  /** Its shape after the last iteration; needed with `shape`. */
  readonly result?: Shape;
}

/** How often a loop runs, and what it carries. */
export interface LoopOptions {
  /** i64 [1]; 0 gives the initial values. */
  readonly trips: Value;
  readonly carried: readonly Carried[];
}

/**
 * Runs `iterate` a number of times, and gives the carried values after the last one. `iterate` takes those of the iteration before and the number of
 * the iteration from 0, i64 [1], and gives the next ones. It may read every value of the graph around it.
 */
export function loop(
  graph: NodeBuilder,
  { trips, carried }: LoopOptions,
  iterate: (carried: readonly Value[], iteration: Value) => readonly Value[],
): Value[] {
  if (trips.dtype !== "i64" || shapeText(trips.shape) !== "[1]")
    throw new Error(`Cannot loop ${trips.text()} times: i64[1] is wanted in "${graph.place("Loop")}"`);
  const inside = carried.map(({ initial, shape }) => shape ?? initial.shape);
  carried.forEach(({ initial }, index) => {
    refuseOther(graph, initial, { wanted: inside[index]!, dtype: initial.dtype, what: "begin with" });
  });
  const inputs = [
    { name: "iteration", dtype: "i64", shape: [] },
    { name: "condition", dtype: "bool", shape: [] },
    ...carried.map(({ initial: { dtype } }, index) => ({ name: `carried.${index}`, dtype, shape: inside[index]! })),
  ] as const;
  const body = graph.body("Loop", inputs, ([iteration, condition, ...state]) => {
    const next = iterate(state, iteration!.reshape([1]));
    if (next.length !== carried.length)
      throw new Error(`Cannot carry ${next.length} values of ${carried.length} in "${graph.place("Loop")}"`);
    next.forEach((value, index) => {
      refuseOther(graph, value, {
        wanted: inside[index]!,
        dtype: state[index]!.dtype,
        what: "carry",
        // Only a shape that was given says that lengths change.
        isFixed: carried[index]!.shape === undefined,
      });
    });
    return [condition!, ...next];
  });
  return graph.node("Loop", [trips.reshape([]), undefined, ...carried.map(({ initial }) => initial)], {
    shapes: carried.map(({ result }, index) => result ?? inside[index]!),
    dtype: carried.map(({ initial }) => initial.dtype),
    attributes: { body: { body } },
  });
}

interface Wanted {
  readonly wanted: Shape;
  readonly dtype: Value["dtype"];
  readonly what: string;
  readonly isFixed?: boolean;
}

// A named length of a shape that changes takes any.
function refuseOther(graph: NodeBuilder, value: Value, { wanted, dtype, what, isFixed = false }: Wanted): void {
  const fits =
    value.dtype === dtype &&
    value.rank === wanted.length &&
    value.shape.every((dim, axis) => dim === wanted[axis] || (!isFixed && typeof wanted[axis] === "string"));
  if (!fits)
    throw new Error(
      `Cannot ${what} ${value.text()} where ${dtype}${shapeText(wanted)} is carried in "${graph.place("Loop")}"`,
    );
}

/** Two ways to compute a value. */
export interface Ways {
  readonly yes: () => Value;
  readonly no: () => Value;
  /** Its shape, with a name of its own for each length in which the two ways differ. That of both unless given. */
  readonly shape?: Shape;
}

/** What one of two ways computes: `yes` where a condition, bool [1], holds, else `no`. Only that one runs; both give the same type. */
export function choose(condition: Value, { yes, no, shape }: Ways): Value {
  const { graph } = condition;
  if (condition.dtype !== "bool" || shapeText(condition.shape) !== "[1]")
    throw new Error(`Cannot choose by ${condition.text()}: bool[1] is wanted in "${graph.place("If")}"`);
  const branch = (build: () => Value) => graph.body("If", [], () => [build()]);
  const [then, otherwise] = [branch(yes), branch(no)];
  const [[a], [b]] = [then.outputs, otherwise.outputs] as [[NamedTensor], [NamedTensor]];
  const fits = ({ shape: found }: NamedTensor) =>
    found.length === shape?.length &&
    found.every((dim, axis) => dim === shape[axis] || typeof shape[axis] === "string");
  if (a.dtype !== b.dtype || !(shape ? fits(a) && fits(b) : sameShape(a.shape, b.shape)))
    throw new Error(
      `Cannot choose between ${a.dtype}${shapeText(a.shape)} and ${b.dtype}${shapeText(b.shape)} in "${graph.place("If")}"`,
    );
  return graph.node("If", [condition.reshape([])], {
    shapes: [shape ?? a.shape],
    dtype: a.dtype,
    attributes: { then_branch: { body: then }, else_branch: { body: otherwise } },
  })[0]!;
}

/** What `build` makes of each part of a value along its first axis, stacked along a first axis. It may read every value of the graph around it. */
export function forEach(x: Value, build: (part: Value) => Value): Value {
  const { graph } = x;
  const body = graph.body("Scan", [{ name: "part", dtype: x.dtype, shape: x.shape.slice(1) }], ([part]) => [
    build(part!),
  ]);
  const [made] = body.outputs;
  return graph.node("Scan", [x], {
    shapes: [[x.dim(0), ...made!.shape]],
    dtype: made!.dtype,
    attributes: { body: { body }, num_scan_inputs: { int: 1 } },
  })[0]!;
}
