// Rewrites of the transformer's graph from src/models that give equal results except for the order of sums.
// Which one is faster depends on the device: bench:gpu times each (gpu/measures.ts, README.md).
import { type Adapter, Weights } from "../src/checkpoint/weights.js";
import type { Graph } from "../src/graph/graph.js";
import { shapesOf } from "../src/graph/lengths.js";
import { MICROSOFT, type Node } from "../src/graph/node.js";
import { gemm } from "../src/graph/operators.js";
import { sameShape } from "../src/graph/types.js";
import type { Value } from "../src/graph/value.js";

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
  const value = graph.inputs.get(name) ?? graph.values.find((each) => each.name === name);
  if (value === undefined) throw new Error(`internal: no value "${name}" in the graph`);
  return value;
}

function replaceNodes(graph: Graph, nodes: readonly Node[]): void {
  graph.nodes.splice(0, graph.nodes.length, ...nodes);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const values = graph.values.filter(({ name }) => made.has(name));
  graph.values.splice(0, graph.values.length, ...values);
}
