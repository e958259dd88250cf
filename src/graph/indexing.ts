// Operators on lengths and places that are known when a graph runs: counting, picking, cutting, and refusing what does not fit.
// Operator schemas: onnx/docs/Operators.md (opset 23).
import { type Dim, multiplyDims, type Shape, shapeText } from "./types.js";
import { concat, type Value } from "./value.js";

/** The whole numbers below a count, i64 [1]: 0, 1, 2, … as i64 [length], where `length` names the count. */
export function range(count: Value, length: Dim): Value {
  const { graph } = count;
  const scalar = (number: number) => graph.constant("i64", [], [number]);
  return graph.node("Range", [scalar(0), count.reshape([]), scalar(1)], { shapes: [[length]], dtype: "i64" })[0]!;
}

/** The elements of an axis at `places`, i64 [n]: the axis becomes n long. */
export function gather(x: Value, places: Value, axis = 0): Value {
  if (places.rank !== 1) throw refuse("Gather", x, `places ${places.text()} are no list`);
  const shape = x.shape.map((dim, index) => (index === axis ? places.dim(0) : dim));
  const options = { shapes: [shape], dtype: x.dtype, attributes: { axis: { int: axis } } };
  return x.graph.node("Gather", [x, places], options)[0]!;
}

/** The sum of each element of a list and all before it. */
export function cumulativeSum(x: Value): Value {
  if (x.rank !== 1) throw refuse("CumSum", x, "it is no list");
  const axis = x.graph.constant("i64", [], [0]);
  return x.graph.node("CumSum", [x, axis], { shapes: [x.shape], dtype: x.dtype })[0]!;
}

/** The sum over one axis, which becomes 1 long. */
export function sumOver(x: Value, axis: number): Value {
  const shape = x.shape.map((dim, index) => (index === axis ? 1 : dim));
  const axes = x.graph.constant("i64", [1], [axis]);
  const options = { shapes: [shape], dtype: x.dtype, attributes: { keepdims: { int: 1 } } };
  return x.graph.node("ReduceSum", [x, axes], options)[0]!;
}

/** Elements of `a` where the condition, bool, holds, else of `b`; broadcasting as ONNX does. */
export function where(condition: Value, a: Value, b: Value): Value {
  const rank = Math.max(condition.rank, a.rank, b.rank);
  const shape = Array.from({ length: rank }, (_, index) => {
    const dims = [condition, a, b].map((each) => each.shape.at(index - rank) ?? 1);
    const [dim = 1, ...others] = [...new Set(dims.filter((each) => each !== 1))];
    if (others.length > 0) throw refuse("Where", condition, `${a.text()} and ${b.text()} do not fit`);
    return dim;
  });
  if (a.dtype !== b.dtype || condition.dtype !== "bool")
    throw refuse("Where", condition, `${a.text()} and ${b.text()} do not fit`);
  return a.graph.node("Where", [condition, a, b], { shapes: [shape], dtype: a.dtype })[0]!;
}

/** Elements [start, end) of an axis, both i64 [1]; `length` names how many they are. */
export function part(
  x: Value,
  { axis, start, end, length }: { axis: number; start: Value; end: Value; length: Dim },
): Value {
  const shape = x.shape.map((dim, index) => (index === axis ? length : dim));
  const axes = x.graph.constant("i64", [1], [axis]);
  return x.graph.node("Slice", [x, start, end, axes], { shapes: [shape], dtype: x.dtype })[0]!;
}

/** The elements of an axis for which a condition, bool [n], holds; `length` names how many they are. */
export function compress(
  x: Value,
  condition: Value,
  { axis, length }: { readonly axis: number; readonly length: Dim },
): Value {
  if (condition.dtype !== "bool" || condition.rank !== 1 || condition.dim(0) !== x.dim(axis))
    throw refuse("Compress", x, `${condition.text()} does not fit axis ${axis}`);
  const shape = x.shape.map((dim, index) => (index === axis ? length : dim));
  const options = { shapes: [shape], dtype: x.dtype, attributes: { axis: { int: axis } } };
  return x.graph.node("Compress", [x, condition], options)[0]!;
}

/** A dimension of length 1 more, before `axis`. */
export function unsqueeze(x: Value, axis: number): Value {
  const shape = x.shape.toSpliced(axis, 0, 1);
  return x.graph.node("Unsqueeze", [x, x.graph.constant("i64", [1], [axis])], { shapes: [shape], dtype: x.dtype })[0]!;
}

/** Without an axis of length 1. */
export function squeeze(x: Value, axis: number): Value {
  if (x.dim(axis) !== 1) throw refuse("Squeeze", x, `axis ${axis} is not of length 1`);
  const shape = x.shape.toSpliced(axis, 1);
  return x.graph.node("Squeeze", [x, x.graph.constant("i64", [1], [axis])], { shapes: [shape], dtype: x.dtype })[0]!;
}

/** The same elements under another shape, any of whose named lengths are given as they are at run time, i64 [1]. */
export function reshapeTo(x: Value, shape: Shape, lengths: Readonly<Record<string, Value>>): Value {
  if (multiplyDims(...x.shape) !== multiplyDims(...shape))
    throw refuse("Reshape", x, `${shapeText(shape)} has another count of elements`);
  const { graph } = x;
  const target = shape.map((dim) => {
    if (typeof dim === "number") return graph.constant("i64", [1], [dim]);
    if (lengths[dim] === undefined) throw refuse("Reshape", x, `the length "${dim}" is not given`);
    return lengths[dim];
  });
  return graph.node("Reshape", [x, concat(target, 0)], { shapes: [shape], dtype: x.dtype })[0]!;
}

/** 1 for each element that holds, else 0: bool as i64. */
export function counted(condition: Value): Value {
  return condition.cast("i64");
}

/** Quotient and remainder of whole numbers that are not negative. */
export function divided(x: Value, divisor: Value | number): { readonly quotient: Value; readonly remainder: Value } {
  const quotient = x.div(divisor);
  return { quotient, remainder: x.sub(quotient.mul(divisor)) };
}

/**
 * A value as it is, where `violations`, i64 [1], is 0; else the run fails in a node that has `message` as its name. ONNX has no operator that
 * refuses: the value is reshaped to more elements than it has.
 */
export function refuseUnless(x: Value, violations: Value, message: string): Value {
  const { graph } = x;
  return graph.scoped(message, () => {
    // Never fewer elements: a length of 0 stands for the length that x has.
    const more = violations.mul(violations);
    const rest = x.rank === 1 ? [] : [graph.constant("i64", [x.rank - 1], new Array<number>(x.rank - 1).fill(0))];
    const wanted = x.shapeValue().add(concat([more, ...rest], 0));
    return graph.node("Reshape", [x, wanted], { shapes: [x.shape], dtype: x.dtype })[0]!;
  });
}

/** 1 where a float is NaN or infinite anywhere, else 0: i64 [1]. */
export function nonFinite(x: Value): Value {
  // 0 times what is not finite is NaN, and so is a sum with NaN, which equals nothing.
  const isFinite = x.mul(0).sum().reshape([1]).equals(0);
  return counted(isFinite).mul(-1).add(1);
}

function refuse(operator: string, value: Value, reason: string): Error {
  return new Error(`Cannot apply ${operator} to ${value.text()}: ${reason} in "${value.graph.place(operator)}"`);
}
