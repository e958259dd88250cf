// An engine that emulates 16-bit graphs on the CPU, which has few 16-bit kernels: every computing operator gets float32 inputs, and its outputs are
// rounded to their type in the graph. Roundings inside a GPU's kernels are not emulated.

import type { Device } from "../src/engine/providers.js";
import { type Engine, modelOf } from "../src/engine/sessions/engine.js";
import { Graph } from "../src/graph/graph.js";
import type { Node } from "../src/graph/node.js";
import { type DType, ELEMENT, type Shape } from "../src/graph/types.js";
import { Value } from "../src/graph/value.js";

/** Operators that only move values or change their type. */
const MOVES = new Set([
  "Cast",
  "Identity",
  "Reshape",
  "Transpose",
  "Slice",
  "Split",
  "Concat",
  "Squeeze",
  "Unsqueeze",
  "Shape",
  "Gather",
]);
const NARROW: readonly DType[] = ["bf16", "f16"];

/** Wraps an engine on the CPU to emulate `device`. Graphs without 16-bit values are unchanged. */
export function roundedEngine(engine: Engine, device: Device = engine.device): Engine {
  return {
    device,
    async open(model) {
      if (!(model.graph instanceof Graph)) throw new Error("internal: a model without its graph cannot be rounded");
      return engine.open({ ...(await modelOf(roundedGraph(model.graph), "none")), inputs: model.inputs });
    },
    dispose: () => engine.dispose(),
  };
}

/** The same graph with casts around every computing 16-bit operator. */
export function roundedGraph(graph: Graph): Graph {
  const rounded = new Graph(graph.name);
  for (const name of ["inputs", "outputs"] as const)
    for (const [key, value] of graph[name]) rounded[name].set(key, value);
  for (const [key, external] of graph.externals) rounded.externals.set(key, external);
  for (const [key, constant] of graph.constants) rounded.constants.set(key, constant);
  rounded.values.push(...graph.values);
  const stored = [...graph.externals, ...graph.constants].map(([name, tensor]) => ({ name, ...tensor }));
  const known = new Map<string, Typed>(
    [...graph.inputs.values(), ...graph.values, ...stored].map((each) => [each.name, each]),
  );
  for (const node of graph.nodes) addNode(rounded, node, known);
  return rounded;
}

interface Typed {
  readonly dtype: DType;
  readonly shape: Shape;
}

// The CPU has no kernel for products with 8-bit weights: cast the weights to float32, multiply by their row scales, and use a Gemm.
function onCpu(node: Node, declare: (name: string, like: string) => void): Node[] {
  if (node.operator !== "MatMulBlockQuantizedFp8Weight") return [node];
  const [x, weight, scales, , bias] = node.inputs as [string, string, string, ...(string | undefined)[]];
  const [wide, scaled] = [`${node.name}/weight.wide`, `${node.name}/weight.scaled`];
  for (const name of [wide, scaled]) declare(name, weight);
  const inDomain = { domain: "", attributes: {} };
  return [
    {
      ...inDomain,
      name: `${wide}/Cast`,
      operator: "Cast",
      inputs: [weight],
      outputs: [wide],
      attributes: { to: { int: ELEMENT.f32.onnx } },
    },
    { ...inDomain, name: `${scaled}/Mul`, operator: "Mul", inputs: [wide, scales], outputs: [scaled] },
    {
      ...inDomain,
      name: node.name,
      operator: "Gemm",
      inputs: [x, scaled, ...(bias ? [bias] : [])],
      outputs: node.outputs,
      attributes: { transB: { int: 1 } },
    },
  ];
}

function addNode(rounded: Graph, node: Node, known: ReadonlyMap<string, Typed>): void {
  const isNarrow = (name: string) => NARROW.includes(known.get(name)?.dtype ?? "f32");
  if (MOVES.has(node.operator) || ![...node.inputs, ...node.outputs].some(isNarrow)) {
    rounded.nodes.push(node);
    return;
  }
  const cast = (from: string, to: string, dtype: DType) =>
    rounded.nodes.push({
      name: `${to}/Cast`,
      operator: "Cast",
      domain: "",
      inputs: [from],
      outputs: [to],
      attributes: { to: { int: ELEMENT[dtype].onnx } },
    });
  const declared = (name: string, like: string) =>
    void rounded.values.push(new Value(rounded, { name, dtype: "f32", shape: known.get(like)!.shape }));
  const inputs = node.inputs.map((name, index) => {
    if (!isNarrow(name)) return name;
    const wide = `${node.name}/${index}.wide`;
    cast(name, wide, "f32");
    declared(wide, name);
    return wide;
  });
  const outputs = node.outputs.map((name) => (isNarrow(name) ? `${name}.wide` : name));
  rounded.nodes.push(...onCpu({ ...node, inputs, outputs }, declared));
  node.outputs.forEach((name, index) => {
    if (!isNarrow(name)) return;
    declared(outputs[index]!, name);
    cast(outputs[index]!, name, known.get(name)!.dtype);
  });
}
