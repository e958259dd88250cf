// Rewrites of the transformer's graph from src/models that give equal results except for the order of sums and roundings.
// Which one is faster depends on the device: bench:gpu times each (gpu/measures.ts, README.md).
import { closeSync, openSync, readSync } from "node:fs";
import { type Adapter, Weights } from "../src/checkpoint/weights.js";
import { elementBytes } from "../src/graph/elements.js";
import type { External, Graph } from "../src/graph/graph.js";
import { shapesOf } from "../src/graph/lengths.js";
import { MICROSOFT, type Node } from "../src/graph/node.js";
import { gemm } from "../src/graph/operators.js";
import type { DType } from "../src/graph/types.js";
import { sameShape } from "../src/graph/types.js";
import { Value } from "../src/graph/value.js";
import { fromBfloat16, fromFloat8E4M3, fromFloat8E5M2, fromFloat16 } from "../src/std/half-floats.js";

/** Rewrites a graph in place into another form. */
export type GraphForm = (graph: Graph) => void;

/** Residuals added by the LayerNormalization that reads their sum: one SkipLayerNormalization for both. */
export function addInLayerNorm(graph: Graph): void {
  const shapes = shapesOf(graph);
  const adds = new Map(graph.nodes.filter(({ operator }) => operator === "Add").map((add) => [add.outputs[0]!, add]));
  const fused = new Set<Node>();
  const nodes = graph.nodes.map((node) => {
    const add = node.operator === "LayerNormalization" ? adds.get(node.inputs[0]!) : undefined;
    const [x, residual] = add?.inputs.map((name) => shapes.get(name)!.shape) ?? [];
    if (add === undefined || x?.length !== 2 || !sameShape(x, residual!)) return node;
    fused.add(add);
    return {
      ...node,
      operator: "SkipLayerNormalization",
      domain: MICROSOFT,
      inputs: [...add.inputs, ...node.inputs.slice(1)],
      // Outputs 1 and 2, mean and deviation, are unused.
      outputs: [node.outputs[0]!, "", "", add.outputs[0]!],
      attributes: { epsilon: node.attributes["epsilon"]! },
    };
  });
  replaceNodes(
    graph,
    nodes.filter((node) => !fused.has(node)),
  );
}

/**
 * Products of 16-bit values with weights in float8 e4m3 by ONNX Runtime's operator for such weights, instead of Cast and Gemm. It scales
 * blocks of `block_size` elements along a row of the weight; here a row is one block, and its scale 1.
 */
export function multiplyFp8(graph: Graph): void {
  const shapes = shapesOf(graph);
  const isFp8 = (name: string) => graph.externals.get(name)?.dtype === "f8_e4m3";
  const is16Bit = (name: string) => ["bf16", "f16"].includes(shapes.get(name)!.dtype);
  const casts = new Map(
    graph.nodes
      .filter(({ operator, inputs, outputs }) => operator === "Cast" && isFp8(inputs[0]!) && is16Bit(outputs[0]!))
      .map((cast) => [cast.outputs[0]!, cast]),
  );
  const fused = new Set<Node>();
  const nodes = graph.nodes.map((node) => {
    const cast = node.operator === "Gemm" ? casts.get(node.inputs[1]!) : undefined;
    const [x, , bias] = node.inputs;
    // The operator accepts only a bias [out]; a LoRA's up product adds to rows.
    if (cast === undefined || (bias !== undefined && shapes.get(bias)!.shape.length !== 1)) return node;
    fused.add(cast);
    const [rows, length] = shapes.get(cast.inputs[0]!)!.shape.map(Number) as [number, number];
    // Input 3, a scale to quantize x to 8 bits, is unused.
    return {
      ...node,
      operator: "MatMulBlockQuantizedFp8Weight",
      domain: MICROSOFT,
      inputs: [x!, cast.inputs[0]!, ones(graph, rows).name, ...(bias === undefined ? [] : ["", bias])],
      attributes: { block_size: { int: length } },
    };
  });
  replaceNodes(
    graph,
    nodes.filter((node) => !fused.has(node)),
  );
}

/** Most elements of a weight that is widened when the graph is built: biases, norms and scales, not matrices. */
const VECTOR = 2 ** 17;

/** Biases and norms widened when the graph is built, not by a Cast in every run; they become part of the model. */
export function widenVectors(graph: Graph): void {
  const shapes = shapesOf(graph);
  const readers = readersOf(graph);
  const widened = new Set<Node>();
  for (const node of graph.nodes) {
    const [name, output] = [node.inputs[0]!, node.outputs[0]!];
    const external = graph.externals.get(name);
    const elements = external?.shape.reduce((product, length) => product * length, 1) ?? 0;
    if (node.operator !== "Cast" || external === undefined || external.shape.length > 1 || elements > VECTOR) continue;
    const { dtype } = shapes.get(output)!;
    const bytes = elementBytes(dtype, [...storedNumbers(external)]);
    graph.constants.set(output, { dtype, shape: external.shape, bytes });
    widened.add(node);
    if (readers.get(name) === 1) graph.externals.delete(name);
  }
  replaceNodes(
    graph,
    graph.nodes.filter((node) => !widened.has(node)),
  );
}

const NUMBERS: Readonly<Partial<Record<DType, (bytes: Uint8Array<ArrayBuffer>) => Float32Array>>> = {
  f32: ({ buffer }) => new Float32Array(buffer),
  f16: ({ buffer }) => fromFloat16(new Uint16Array(buffer)),
  bf16: ({ buffer }) => fromBfloat16(new Uint16Array(buffer)),
  f8_e4m3: fromFloat8E4M3,
  f8_e5m2: fromFloat8E5M2,
};

function storedNumbers({ dtype, file, offset, length }: External): Float32Array {
  const bytes = new Uint8Array(length);
  const descriptor = openSync(file, "r");
  try {
    if (readSync(descriptor, bytes, 0, length, offset) !== length) throw new Error(`${file} ends too early`);
  } finally {
    closeSync(descriptor);
  }
  const numbers = NUMBERS[dtype];
  if (numbers === undefined) throw new Error(`internal: no numbers of ${dtype}`);
  return numbers(bytes);
}

/** Biases of products before a GELU added by the GELU: FastGelu reads and writes what Gemm would have broadcast its bias into. */
export function addBiasInGelu(graph: Graph): void {
  const products = biasedProducts(graph);
  const bare = new Set<string>();
  const nodes = graph.nodes.map((node) => {
    const product = node.operator === "Gelu" ? products.get(node.inputs[0]!) : undefined;
    if (product === undefined) return node;
    bare.add(product.name);
    return {
      ...node,
      operator: "FastGelu",
      domain: MICROSOFT,
      inputs: [...node.inputs, product.inputs[2]!],
      attributes: {},
    };
  });
  replaceNodes(graph, withoutBias(nodes, bare));
}

/**
 * Biases of gated products added by the SkipLayerNormalization that adds the residual: `x + gate · (W·y + b)` as `x + gate · W·y + gate · b`, where the
 * last product is of vectors. After addInLayerNorm.
 */
export function addGatedBiasInLayerNorm(graph: Graph): void {
  const products = biasedProducts(graph);
  const readers = readersOf(graph);
  const gated = new Map(
    graph.nodes
      .filter(({ operator, outputs }) => operator === "Mul" && readers.get(outputs[0]!) === 1)
      .flatMap((node) => {
        const product = node.inputs.map((name) => products.get(name)).find((each) => each !== undefined);
        return product === undefined ? [] : [[node.outputs[0]!, { node, product }] as const];
      }),
  );
  const bare = new Set<string>();
  const nodes = [...graph.nodes].flatMap((node) => {
    const found = node.operator === "SkipLayerNormalization" ? gated.get(node.inputs[1]!) : undefined;
    if (found === undefined) return [node];
    const { product, node: mul } = found;
    const gate = mul.inputs.find((name) => name !== product.outputs[0])!;
    const [start, bias] = [graph.nodes.length, valueOf(graph, product.inputs[2]!)];
    const gatedBias = graph.scoped(`${product.name}/bias`, () => valueOf(graph, gate).mul(bias));
    bare.add(product.name);
    return [...graph.nodes.splice(start), { ...node, inputs: [...node.inputs, gatedBias.name] }];
  });
  replaceNodes(graph, withoutBias(nodes, bare));
}

// Products with a bias of one number for each output, which one node reads, by what they give.
function biasedProducts(graph: Graph): ReadonlyMap<string, Node> {
  const shapes = shapesOf(graph);
  const readers = readersOf(graph);
  const isBiased = ({ operator, inputs, outputs }: Node) =>
    operator === "Gemm" &&
    inputs[2] !== undefined &&
    shapes.get(inputs[2])!.shape.length === 1 &&
    readers.get(outputs[0]!) === 1;
  return new Map(graph.nodes.filter(isBiased).map((node) => [node.outputs[0]!, node]));
}

/** How many times each value is read. */
function readersOf({ nodes }: Graph): ReadonlyMap<string, number> {
  const readers = new Map<string, number>();
  for (const name of nodes.flatMap(({ inputs }) => inputs)) readers.set(name, (readers.get(name) ?? 0) + 1);
  return readers;
}

function withoutBias(nodes: readonly Node[], bare: ReadonlySet<string>): Node[] {
  return nodes.map((node) => (bare.has(node.name) ? { ...node, inputs: node.inputs.slice(0, 2) } : node));
}

function ones(graph: Graph, rows: number): Value {
  return graph.once(`ones ${rows}`, () => graph.constant("f32", [rows, 1], new Array<number>(rows).fill(1)));
}

/** LoRAs added to a graph that was built without them: two products for each LoRA on each layer. Modules that the graph lacks are left out. */
export function addLorasApart(graph: Graph, adapters: readonly Adapter[]): void {
  const weights = Weights.of(graph, { file: "", tensors: new Map(), metadata: {} }, adapters);
  for (const module of new Set(adapters.flatMap(({ modules }) => [...modules.keys()]))) {
    const nodes = graph.nodes.filter(({ name }) => name.startsWith(`${module}/`));
    if (nodes.length > 0) addToLayer(graph, nodes, weights.at(module));
  }
}

// y + strength · alpha/rank · up(down(x)), scaled at the rank, where it is cheapest.
function addToLayer(graph: Graph, layer: readonly Node[], w: Weights): void {
  const [x, y] = [inputOf(layer, graph), valueOf(graph, layer.at(-1)!.outputs[0]!)];
  const end = graph.nodes.length;
  const sum = w.scoped(() =>
    w.adapters().reduce((total, { parts, scale, strength }) => {
      const [up, down] = [parts.up!, parts.down!];
      const inner = gemm(x, down.cast(x.dtype)).mul(strength.mul(scale).cast(x.dtype));
      return total.add(gemm(inner, up.cast(x.dtype)));
    }, y),
  );
  const added = graph.nodes.splice(end);
  const start = graph.nodes.indexOf(layer.at(-1)!) + 1;
  const readers = graph.nodes
    .splice(start)
    .map((node) =>
      node.inputs.includes(y.name)
        ? { ...node, inputs: node.inputs.map((name) => (name === y.name ? sum.name : name)) }
        : node,
    );
  graph.nodes.push(...added, ...readers);
}

// Inputs of a layer: values that are neither weights nor outputs of its own nodes.
function inputOf(layer: readonly Node[], graph: Graph): Value {
  const own = new Set(layer.flatMap(({ outputs }) => outputs));
  const isRead = (name: string) => !own.has(name) && !graph.externals.has(name) && !graph.constants.has(name);
  return valueOf(graph, layer.flatMap(({ inputs }) => inputs).find(isRead)!);
}

function valueOf(graph: Graph, name: string): Value {
  const value = graph.inputs.get(name) ?? graph.values.find((each) => each.name === name) ?? storedValue(graph, name);
  if (value === undefined) throw new Error(`internal: no value "${name}" in the graph`);
  return value;
}

function storedValue(graph: Graph, name: string): Value | undefined {
  const stored = graph.externals.get(name) ?? graph.constants.get(name);
  return stored && new Value(graph, { name, dtype: stored.dtype, shape: stored.shape });
}

function replaceNodes(graph: Graph, nodes: readonly Node[]): void {
  graph.nodes.splice(0, graph.nodes.length, ...nodes);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const values = graph.values.filter(({ name }) => made.has(name));
  graph.values.splice(0, graph.values.length, ...values);
}
