// Element types and dimensions of graph values. A dimension is a number, or a name that stands for the same
// number wherever it appears ("h", "8*h", "txt+img"); none is anonymous, or creating a session takes time quadratic in the nodes.

/** ONNX TensorProto.DataType numbers (onnx/onnx.proto3) and byte widths of the element types in use. */
export const ELEMENT = {
  f32: { onnx: 1, bytes: 4 },
  u8: { onnx: 2, bytes: 1 },
  i8: { onnx: 3, bytes: 1 },
  i32: { onnx: 6, bytes: 4 },
  i64: { onnx: 7, bytes: 8 },
  bool: { onnx: 9, bytes: 1 },
  f16: { onnx: 10, bytes: 2 },
  f64: { onnx: 11, bytes: 8 },
  bf16: { onnx: 16, bytes: 2 },
  f8_e4m3: { onnx: 17, bytes: 1 },
  f8_e5m2: { onnx: 19, bytes: 1 },
} as const;

/** Element type of a graph value. */
export type DType = keyof typeof ELEMENT;

/** A length, or a name for one: a symbol ("tokens"), a multiple ("8*h"), a product ("h*w") or a sum ("txt+img"). */
export type Dim = number | string;

/** Dimensions of a graph value, outermost first. */
export type Shape = readonly Dim[];

interface Product {
  readonly factor: number;
  readonly symbols: readonly string[];
}

// A sum is one opaque symbol.
function product(dim: Dim): Product {
  if (typeof dim === "number") return { factor: dim, symbols: [] };
  if (dim.includes("+")) return { factor: 1, symbols: [dim] };
  const parts = dim.split("*");
  const factor = parts.filter(isInteger).reduce((all, part) => all * Number(part), 1);
  return { factor, symbols: parts.filter((part) => !isInteger(part)) };
}

function isInteger(text: string): boolean {
  return /^\d+$/.test(text);
}

function dimOf({ factor, symbols }: Product): Dim {
  if (symbols.length === 0) return factor;
  const name = [...symbols].sort().join("*");
  return factor === 1 ? name : `${factor}*${name}`;
}

/** The product of dimensions, in canonical form: 8 and "h" give "8*h". */
export function multiplyDims(...dims: readonly Dim[]): Dim {
  const products = dims.map(product);
  return dimOf({
    factor: products.reduce((all, each) => all * each.factor, 1),
    symbols: products.flatMap((each) => each.symbols),
  });
}

/** The sum of two dimensions; the same symbol adds up ("h" and "h" give "2*h"), others are joined with "+". */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  if (a === 0) return b;
  if (b === 0) return a;
  const [left, right] = [product(a), product(b)];
  if (left.symbols.join() === right.symbols.join()) {
    return dimOf({ factor: left.factor + right.factor, symbols: left.symbols });
  }
  return `${a}+${b}`;
}

/** A dimension divided by a whole number, or undefined when its factor is not a multiple of it. */
export function divideDim(dim: Dim, divisor: number): Dim | undefined {
  const { factor, symbols } = product(dim);
  return factor % divisor === 0 ? dimOf({ factor: factor / divisor, symbols }) : undefined;
}

/** A shape for messages: `[1, n, 12]`. */
export function shapeText(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes are the same, dimension by dimension. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}
