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

/** How weights in 8-bit floats become float32 at every run: by Cast, or by looking their bytes up, which a CPU does faster. */
export type Widening = "cast" | "look-up";

/** A length, or a name for one: a symbol ("tokens"), a multiple ("8*h"), a product ("h*w") or a sum ("txt+img"). */
export type Dim = number | string;

/** Dimensions of a graph value, outermost first. */
export type Shape = readonly Dim[];

/** A factor times symbols; a dimension is the sum of some. */
interface Term {
  readonly factor: number;
  readonly symbols: readonly string[];
}

function termsOf(dim: Dim): Term[] {
  if (typeof dim === "number") return [{ factor: dim, symbols: [] }];
  return dim.split("+").map((term) => {
    const parts = term.split("*");
    const factor = parts.filter(isInteger).reduce((all, part) => all * Number(part), 1);
    return { factor, symbols: parts.filter((part) => !isInteger(part)) };
  });
}

function isInteger(text: string): boolean {
  return /^\d+$/.test(text);
}

// Terms of the same symbols add up, in the order in which they first come.
function dimOf(terms: readonly Term[]): Dim {
  const factors = new Map<string, number>();
  for (const { factor, symbols } of terms) {
    const name = [...symbols].sort().join("*");
    factors.set(name, (factors.get(name) ?? 0) + factor);
  }
  const named = [...factors].filter(([name, factor]) => name !== "" || factor !== 0);
  if (named.length === 0) return 0;
  if (named.length === 1 && named[0]![0] === "") return named[0]![1];
  return named
    .map(([name, factor]) => (name === "" ? `${factor}` : factor === 1 ? name : `${factor}*${name}`))
    .join("+");
}

/** The product of dimensions, in canonical form: 8 and "h" give "8*h", 8 and "h+w" give "8*h+8*w". */
export function multiplyDims(...dims: readonly Dim[]): Dim {
  // Without a sum, as nearly always, there is nothing to distribute: building a graph asks for some thousand products.
  if (dims.some((dim) => typeof dim === "string" && dim.includes("+"))) return multiplySums(dims);
  let factor = 1;
  const symbols: string[] = [];
  for (const dim of dims) {
    if (typeof dim === "number") factor *= dim;
    else
      for (const part of dim.split("*")) {
        if (isInteger(part)) factor *= Number(part);
        else symbols.push(part);
      }
  }
  if (symbols.length === 0) return factor;
  const name = symbols.sort().join("*");
  return factor === 1 ? name : `${factor}*${name}`;
}

function multiplySums(dims: readonly Dim[]): Dim {
  const one: readonly Term[] = [{ factor: 1, symbols: [] }];
  const times = (all: readonly Term[], terms: readonly Term[]) =>
    all.flatMap((left) =>
      terms.map((right) => ({ factor: left.factor * right.factor, symbols: [...left.symbols, ...right.symbols] })),
    );
  return dimOf(dims.map(termsOf).reduce(times, one));
}

/** The sum of two dimensions; the same symbol adds up ("h" and "h" give "2*h"), others are joined with "+". */
export function addDims(a: Dim, b: Dim): Dim {
  return dimOf([...termsOf(a), ...termsOf(b)]);
}

/** A dimension divided by a whole number, or undefined when a factor is not a multiple of it. */
export function divideDim(dim: Dim, divisor: number): Dim | undefined {
  const terms = termsOf(dim);
  if (terms.some(({ factor }) => factor % divisor !== 0)) return undefined;
  return dimOf(terms.map(({ factor, symbols }) => ({ factor: factor / divisor, symbols })));
}

/** A shape for messages: `[1, n, 12]`. */
export function shapeText(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes are the same, dimension by dimension. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}
