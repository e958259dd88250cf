// A value of the graph: a name with a type and a shape, and the operators as methods.
// Adding a node infers the result or throws on that line, with both sides in the message.
import type { Body, NamedTensor, NodeOptions } from "./node.js";
import { addDims, type Dim, type DType, ELEMENT, multiplyDims, type Shape, sameShape, shapeText } from "./types.js";

/** The graph that values add nodes to: what the operators use of a Graph, which documents it. */
export interface NodeBuilder {
  body(operator: string, inputs: readonly NamedTensor[], build: (inputs: readonly Value[]) => readonly Value[]): Body;
  constant(dtype: DType, shape: readonly number[], numbers: readonly number[]): Value;
  node(operator: string, inputs: readonly (Value | undefined)[], options: NodeOptions): Value[];
  once(key: string, build: () => Value): Value;
  place(operator: string): string;
  scoped<T>(path: string, build: () => T): T;
}

/** A tensor that a node, an input or an initializer gives. */
export class Value {
  readonly graph: NodeBuilder;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;

  constructor(graph: NodeBuilder, { name, dtype, shape }: { name: string; dtype: DType; shape: Shape }) {
    this.graph = graph;
    this.name = name;
    this.dtype = dtype;
    this.shape = shape;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** One dimension; negative axes count from the end. */
  dim(axis: number): Dim {
    const dim = this.shape.at(axis);
    if (dim === undefined) throw new Error(`internal: ${this.text()} has no axis ${axis}`);
    return dim;
  }

  /** For messages: `x f32[1, n, 12]`. */
  text(): string {
    return `${this.name} ${this.dtype}${shapeText(this.shape)}`;
  }

  /** Elementwise sum, broadcasting as ONNX does. */
  add(other: Value | number): Value {
    return this.#broadcast("Add", other);
  }

  /** Elementwise difference, broadcasting as ONNX does. */
  sub(other: Value | number): Value {
    return this.#broadcast("Sub", other);
  }

  /** Elementwise product, broadcasting as ONNX does. */
  mul(other: Value | number): Value {
    return this.#broadcast("Mul", other);
  }

  /** Elementwise quotient, broadcasting as ONNX does. */
  div(other: Value | number): Value {
    return this.#broadcast("Div", other);
  }

  /** Each element, or `other` where that is larger. */
  max(other: Value | number): Value {
    return this.#broadcast("Max", other);
  }

  /** Each element, or `other` where that is smaller. */
  min(other: Value | number): Value {
    return this.#broadcast("Min", other);
  }

  /** Whether each element equals `other`, bool. */
  equals(other: Value | number): Value {
    return this.#broadcast("Equal", other, "bool");
  }

  /** Whether each element is `other` or more, bool. */
  atLeast(other: Value | number): Value {
    return this.#broadcast("GreaterOrEqual", other, "bool");
  }

  /** The largest whole number that is not above each element. */
  floor(): Value {
    return this.#one("Floor", this.shape);
  }

  /** The square root of each element. */
  sqrt(): Value {
    return this.#one("Sqrt", this.shape);
  }

  /** The cosine of each element, an angle in radians. */
  cos(): Value {
    return this.#one("Cos", this.shape);
  }

  /** The sine of each element, an angle in radians. */
  sin(): Value {
    return this.#one("Sin", this.shape);
  }

  /** The sum of all elements, a scalar. */
  sum(): Value {
    const axes = this.graph.constant(
      "i64",
      [this.rank],
      this.shape.map((_, axis) => axis),
    );
    return this.#node("ReduceSum", [this, axes], {
      shapes: [[]],
      dtype: this.dtype,
      attributes: { keepdims: { int: 0 } },
    });
  }

  /** The sums over one axis, which goes. */
  sumOver(axis: number): Value {
    const axes = this.graph.constant("i64", [1], [axis]);
    const shape = this.shape.filter((_, index) => index !== axis);
    return this.#node("ReduceSum", [this, axes], {
      shapes: [shape],
      dtype: this.dtype,
      attributes: { keepdims: { int: 0 } },
    });
  }

  /** Repeated to a shape of numbers, as ONNX broadcasts. */
  expand(shape: readonly Dim[]): Value {
    const wanted = this.graph.constant("i64", [shape.length], shape.map(Number));
    return this.#node("Expand", [this, wanted], { shapes: [shape], dtype: this.dtype });
  }

  /** Limits every element to [low, high]. */
  clip(low: number, high: number): Value {
    const limit = (number: number) => this.graph.constant(this.dtype, [], [number]);
    return this.#node("Clip", [this, limit(low), limit(high)], { shapes: [this.shape], dtype: this.dtype });
  }

  /** The same numbers as another element type; nothing is added when it is that already. */
  cast(dtype: DType): Value {
    if (dtype === this.dtype) return this;
    return this.#node("Cast", [this], {
      shapes: [this.shape],
      dtype,
      attributes: { to: { int: ELEMENT[dtype].onnx } },
    });
  }

  /** Matrix product of the last two axes; ranks are equal or one side is a matrix. */
  matmul(other: Value): Value {
    const [inner, outer] = [this.dim(-1), other.dim(-2)];
    if (inner !== outer) {
      throw this.#mismatch("multiply", other, "MatMul", `inner lengths ${inner} and ${outer} differ`);
    }
    this.#sameType(other, "MatMul");
    const batch = this.rank >= other.rank ? this.shape.slice(0, -2) : other.shape.slice(0, -2);
    return this.#node("MatMul", [this, other], {
      shapes: [[...batch, this.dim(-2), other.dim(-1)]],
      dtype: this.dtype,
    });
  }

  /** Reorders axes: `axes[i]` is the axis of this value that becomes axis i. */
  transpose(axes: readonly number[]): Value {
    if (axes.length !== this.rank) throw new Error(`internal: cannot transpose ${this.text()} by [${axes.join(", ")}]`);
    return this.#one(
      "Transpose",
      axes.map((axis) => this.dim(axis)),
      { perm: { ints: axes } },
    );
  }

  /** The same elements under another shape. Names must multiply out to the same; at most one may move to a new place. */
  reshape(shape: Shape): Value {
    const refuse = (reason: string) =>
      new Error(`Cannot reshape ${this.text()} to ${shapeText(shape)}: ${reason} in "${this.graph.place("Reshape")}"`);
    if (multiplyDims(...this.shape) !== multiplyDims(...shape)) throw refuse("element counts differ");
    // ONNX Reshape: 0 copies the dimension at the same place, -1 is inferred.
    const target = shape.map((dim, axis) => (typeof dim === "number" ? dim : dim === this.shape[axis] ? 0 : -1));
    if (target.filter((dim) => dim === -1).length > 1) throw refuse("more than one named dimension moves");
    const wanted = this.graph.constant("i64", [target.length], target);
    return this.#node("Reshape", [this, wanted], { shapes: [shape], dtype: this.dtype });
  }

  /** Reshapes to the shape that another value has at run time. */
  reshapeLike(other: Value): Value {
    if (multiplyDims(...this.shape) !== multiplyDims(...other.shape)) {
      throw this.#mismatch("reshape", other, "Reshape", "element counts differ");
    }
    return this.#node("Reshape", [this, other.shapeValue()], { shapes: [other.shape], dtype: this.dtype });
  }

  /** The dimensions at run time, i64[rank], or those of axes [start, end). */
  shapeValue(start = 0, end = this.rank): Value {
    const attributes = { start: { int: start }, end: { int: end } };
    return this.#node("Shape", [this], { shapes: [[end - start]], dtype: "i64", attributes });
  }

  /** Elements [start, end) of one axis, by fixed numbers. */
  slice(axis: number, start: number, end: number): Value {
    const length = this.dim(axis);
    if (typeof length !== "number" || start < 0 || end > length || start >= end) {
      throw new Error(
        `Cannot slice ${this.text()} to [${start}, ${end}) of axis ${axis} in "${this.graph.place("Slice")}"`,
      );
    }
    const index = (number: number) => this.graph.constant("i64", [1], [number]);
    const shape = withDim(this.shape, axis, end - start);
    return this.#node("Slice", [this, index(start), index(end), index(axis)], { shapes: [shape], dtype: this.dtype });
  }

  /** Repeats every element of an axis `side` times, and cuts the axis to `length`: one number for each block becomes one for each element. */
  spread(axis: number, side: number, length: number): Value {
    const blocks = this.dim(axis);
    if (blocks !== Math.ceil(length / side)) {
      throw new Error(
        `Cannot spread ${this.text()} over ${length} elements of axis ${axis}, ${side} for each, in "${this.graph.place("Gather")}"`,
      );
    }
    const places = this.graph.once(`places of blocks of ${side} in ${length}`, () =>
      this.graph.constant(
        "i64",
        [length],
        Array.from({ length }, (_, element) => Math.floor(element / side)),
      ),
    );
    const attributes = { axis: { int: axis } };
    return this.graph.node("Gather", [this, places], {
      shapes: [withDim(this.shape, axis, length)],
      dtype: this.dtype,
      attributes,
    })[0]!;
  }

  /** The first elements of an axis, as many as `like` has along its axis `likeAxis`; the dimension takes that name. */
  firstLike(axis: number, like: Value, likeAxis: number): Value {
    const index = (number: number) => this.graph.constant("i64", [1], [number]);
    const end = lengthsOf([like], likeAxis);
    const shape = withDim(this.shape, axis, like.dim(likeAxis));
    return this.#node("Slice", [this, index(0), end, index(axis)], { shapes: [shape], dtype: this.dtype });
  }

  /** Cuts an axis into parts as long as the given values are along their axis `likeAxis`, in order. */
  splitLike(axis: number, likes: readonly Value[], likeAxis: number): Value[] {
    const sizes = lengthsOf(likes, likeAxis);
    const shapes = likes.map((like) => withDim(this.shape, axis, like.dim(likeAxis)));
    return this.graph.node("Split", [this, sizes], { shapes, dtype: this.dtype, attributes: { axis: { int: axis } } });
  }

  /** Cuts an axis of known length into equal parts. */
  chunk(count: number, axis: number): Value[] {
    const length = this.dim(axis);
    if (typeof length !== "number" || length % count !== 0) {
      throw new Error(
        `Cannot cut ${this.text()} into ${count} parts along axis ${axis} in "${this.graph.place("Split")}"`,
      );
    }
    const shapes = Array.from({ length: count }, () => withDim(this.shape, axis, length / count));
    const attributes = { axis: { int: axis < 0 ? axis + this.rank : axis }, num_outputs: { int: count } };
    return this.graph.node("Split", [this], { shapes, dtype: this.dtype, attributes });
  }

  /** Cuts an axis into parts of the given lengths, in order. */
  cut(lengths: readonly number[], axis: number): Value[] {
    if (lengths.length === 1) return [this];
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total !== this.dim(axis))
      throw new Error(
        `Cannot cut ${this.text()} into ${lengths.join(" + ")} along axis ${axis} in "${this.graph.place("Split")}"`,
      );
    const sizes = this.graph.constant("i64", [lengths.length], lengths);
    const shapes = lengths.map((length) => withDim(this.shape, axis, length));
    return this.graph.node("Split", [this, sizes], {
      shapes,
      dtype: this.dtype,
      attributes: { axis: { int: axis < 0 ? axis + this.rank : axis } },
    });
  }

  #broadcast(operator: string, other: Value | number, dtype: DType = this.dtype): Value {
    const right = typeof other === "number" ? this.graph.constant(this.dtype, [], [other]) : other;
    this.#sameType(right, operator);
    const rank = Math.max(this.rank, right.rank);
    const shape = Array.from({ length: rank }, (_, index) => {
      const [a, b] = [this.shape.at(index - rank) ?? 1, right.shape.at(index - rank) ?? 1];
      if (a !== b && a !== 1 && b !== 1) {
        throw this.#mismatch(VERB[operator] ?? "combine", right, operator, `lengths ${a} and ${b} differ`);
      }
      return a === 1 ? b : a;
    });
    return this.#node(operator, [this, right], { shapes: [shape], dtype });
  }

  #sameType(other: Value, operator: string): void {
    if (this.dtype !== other.dtype) {
      throw this.#mismatch("combine", other, operator, `types ${this.dtype} and ${other.dtype} differ`);
    }
  }

  #mismatch(verb: string, other: Value, operator: string, reason: string): Error {
    return new Error(`Cannot ${verb} ${this.text()} and ${other.text()}: ${reason} in "${this.graph.place(operator)}"`);
  }

  #one(operator: string, shape: Shape, attributes: NodeOptions["attributes"] = {}): Value {
    return this.#node(operator, [this], { shapes: [shape], dtype: this.dtype, attributes });
  }

  #node(operator: string, inputs: readonly Value[], options: NodeOptions): Value {
    return this.graph.node(operator, inputs, options)[0]!;
  }
}

// Lengths at run time along an axis, i64[values]. A named dimension is one number in all of a graph, so it is read once.
function lengthsOf(likes: readonly Value[], axis: number): Value {
  const { graph } = likes[0]!;
  const lengths = likes.map((like) => graph.once(`length ${like.dim(axis)}`, () => like.shapeValue(axis, axis + 1)));
  return lengths.length === 1
    ? lengths[0]!
    : graph.once(`lengths ${likes.map((like) => like.dim(axis)).join()}`, () => concat(lengths, 0));
}

const VERB: Readonly<Record<string, string>> = { Add: "add", Sub: "subtract", Mul: "multiply", Div: "divide" };

function withDim(shape: Shape, axis: number, dim: Dim): Shape {
  const place = axis < 0 ? axis + shape.length : axis;
  return shape.map((each, index) => (index === place ? dim : each));
}

/** Joins values along an axis; all other dimensions agree. */
export function concat(values: readonly Value[], axis: number): Value {
  const [first] = values;
  if (first === undefined) throw new Error("internal: concat of nothing");
  for (const value of values) {
    if (!sameShape(withDim(value.shape, axis, 0), withDim(first.shape, axis, 0))) {
      throw new Error(
        `Cannot join ${first.text()} and ${value.text()} along axis ${axis} in "${first.graph.place("Concat")}"`,
      );
    }
  }
  const shape = withDim(first.shape, axis, values.map((value) => value.dim(axis)).reduce(addDims));
  return first.graph.node("Concat", values, {
    shapes: [shape],
    dtype: first.dtype,
    attributes: { axis: { int: axis } },
  })[0]!;
}
