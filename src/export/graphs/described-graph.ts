// A graph whose inputs and outputs are those that a model's tensors say.
import type { Optimization } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import { type DType, type Shape, shapeText } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { Datatype, ExportedModel, TensorSpec } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";

const ELEMENT_TYPE: Readonly<Record<Datatype, DType>> = { FP32: "f32", INT64: "i64", UINT8: "u8" };

/** How a described graph is built. */
export interface GraphDescription {
  /** Shape of each input, with names for lengths that a request decides. */
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly optimization: Optimization;
  /** Gives the outputs by name. */
  readonly build: (inputs: Readonly<Record<string, Value>>, graph: Graph) => Readonly<Record<string, Value>>;
}

/** A model with its graph. Throws where the graph's inputs or outputs are others than the tensors say. */
export function describedGraph(
  tensors: ModelTensors,
  { shapes, optimization, build }: GraphDescription,
): ExportedModel {
  const graph = new Graph(tensors.name);
  const inputs = tensors.inputs.map((spec) => {
    const shape = shapes[spec.name] ?? spec.dims;
    refuseOther(spec, { name: spec.name, dtype: ELEMENT_TYPE[spec.datatype], shape });
    return [spec.name, graph.input(spec.name, ELEMENT_TYPE[spec.datatype], shape)] as const;
  });
  const outputs = build(Object.fromEntries(inputs), graph);
  for (const spec of tensors.outputs) {
    const value = outputs[spec.name];
    if (value === undefined) throw new Error(`internal: ${tensors.name} has no output ${spec.name}`);
    refuseOther(spec, value);
    graph.output(spec.name, value);
  }
  return { ...tensors, graph, optimization };
}

// A length that a request decides has a name in the graph, any other one its number.
function refuseOther(
  { name, datatype, dims }: TensorSpec,
  { dtype, shape }: Pick<Value, "name" | "dtype" | "shape">,
): void {
  const fits =
    dtype === ELEMENT_TYPE[datatype] &&
    shape.length === dims.length &&
    shape.every((dim, axis) => (dims[axis] === -1 ? typeof dim === "string" : dim === dims[axis]));
  if (fits) return;
  throw new Error(`internal: ${name} is ${dtype}${shapeText(shape)}, described as ${datatype} [${dims.join(", ")}]`);
}
