// A Graph as the bytes of an ONNX ModelProto. The schema below holds the messages and fields that qedit writes, with the
// field numbers of onnx/onnx.proto3 (github.com/onnx/onnx, v1.18.0, Apache-2.0).
import protobuf from "protobufjs/light.js";
import type { Graph } from "./graph.js";
import { locationOf } from "./locations.js";
import { type Attribute, type Body, MICROSOFT, type NamedTensor, type Node } from "./node.js";
import { OPSET } from "./operators.js";
import { ELEMENT, type Shape } from "./types.js";
import { type FixedNames, fixedInside, fixedNames, weightsFirst } from "./weight-nodes.js";

/** ONNX IR version that goes with OPSET. */
const IR_VERSION = 11;
/** TensorProto.DataLocation.EXTERNAL */
const EXTERNAL = 1;
/** AttributeProto.AttributeType */
const ATTRIBUTE_TYPE = { FLOAT: 1, INT: 2, STRING: 3, GRAPH: 5, INTS: 7 };

const field = (id: number, type: string) => ({ id, type });
const repeated = (id: number, type: string) => ({ id, type, rule: "repeated" });

const schema = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      fields: {
        irVersion: field(1, "int64"),
        producerName: field(2, "string"),
        graph: field(7, "GraphProto"),
        opsetImport: repeated(8, "OperatorSetIdProto"),
      },
    },
    OperatorSetIdProto: { fields: { domain: field(1, "string"), version: field(2, "int64") } },
    GraphProto: {
      fields: {
        node: repeated(1, "NodeProto"),
        name: field(2, "string"),
        initializer: repeated(5, "TensorProto"),
        input: repeated(11, "ValueInfoProto"),
        output: repeated(12, "ValueInfoProto"),
        valueInfo: repeated(13, "ValueInfoProto"),
      },
    },
    NodeProto: {
      fields: {
        input: repeated(1, "string"),
        output: repeated(2, "string"),
        name: field(3, "string"),
        opType: field(4, "string"),
        attribute: repeated(5, "AttributeProto"),
        domain: field(7, "string"),
      },
    },
    AttributeProto: {
      fields: {
        name: field(1, "string"),
        f: field(2, "float"),
        i: field(3, "int64"),
        s: field(4, "bytes"),
        g: field(6, "GraphProto"),
        ints: repeated(8, "int64"),
        type: field(20, "int32"),
      },
    },
    TensorProto: {
      fields: {
        dims: repeated(1, "int64"),
        dataType: field(2, "int32"),
        name: field(8, "string"),
        rawData: field(9, "bytes"),
        externalData: repeated(13, "StringStringEntryProto"),
        dataLocation: field(14, "int32"),
      },
    },
    StringStringEntryProto: { fields: { key: field(1, "string"), value: field(2, "string") } },
    ValueInfoProto: { fields: { name: field(1, "string"), type: field(2, "TypeProto") } },
    TypeProto: { fields: { tensorType: field(1, "TensorTypeProto") } },
    TensorTypeProto: { fields: { elemType: field(1, "int32"), shape: field(2, "TensorShapeProto") } },
    TensorShapeProto: { fields: { dim: repeated(1, "DimensionProto") } },
    DimensionProto: { fields: { dimValue: field(1, "int64"), dimParam: field(2, "string") } },
  },
});
const ModelProto = schema.lookupType("ModelProto");

/**
 * The graph as an ONNX model. Weights are external data: `locate` gives the location of a file, by default its absolute path without the root.
 */
export function encodeModel(graph: Graph, locate: (file: string) => string = locationOf): Uint8Array {
  const { name, nodes, values } = graph;
  const whole = { name, nodes, values, inputs: [...graph.inputs.values()], outputs: [...graph.outputs.values()] };
  return ModelProto.encode({
    irVersion: IR_VERSION,
    producerName: "qedit",
    opsetImport: [
      { domain: "", version: OPSET },
      { domain: MICROSOFT, version: 1 },
    ],
    graph: {
      ...graphProto(whole, fixedNames(graph)),
      initializer: [...externalProtos(graph, locate), ...constantProtos(graph)],
    },
  }).finish();
}

/**
 * A graph, or a body inside one. First come the nodes that read weights alone: ONNX Runtime runs a graph depth first from its
 * results and takes the input whose node comes last first, so that a weight is widened just before its product. As they were added, a
 * cast would follow what its product reads, and be run before all of that: the widened weights of every block at once.
 */
function graphProto({ name, nodes, inputs, outputs, values }: Body, fixed: FixedNames): object {
  const given = new Set(outputs.map((output) => output.name));
  return {
    name,
    node: weightsFirst(nodes, fixed).map((node) => nodeProto(node, fixed)),
    input: inputs.map(valueProto),
    output: outputs.map(valueProto),
    valueInfo: values.filter((value) => !given.has(value.name)).map(valueProto),
  };
}

function nodeProto(node: Node, fixed: FixedNames) {
  return {
    input: node.inputs,
    output: node.outputs,
    name: node.name,
    opType: node.operator,
    domain: node.domain,
    attribute: Object.entries(node.attributes).map(([name, attribute]) => ({
      name,
      ...attributeProto(attribute, fixed),
    })),
  };
}

function attributeProto(attribute: Attribute, fixed: FixedNames): object {
  if ("int" in attribute) return { i: attribute.int, type: ATTRIBUTE_TYPE.INT };
  if ("float" in attribute) return { f: attribute.float, type: ATTRIBUTE_TYPE.FLOAT };
  if ("text" in attribute) return { s: new TextEncoder().encode(attribute.text), type: ATTRIBUTE_TYPE.STRING };
  if ("ints" in attribute) return { ints: attribute.ints, type: ATTRIBUTE_TYPE.INTS };
  return { g: graphProto(attribute.body, fixedInside(fixed)), type: ATTRIBUTE_TYPE.GRAPH };
}

function externalProtos(graph: Graph, locate: (file: string) => string) {
  return [...graph.externals].map(([name, { dtype, shape, file, offset, length }]) => ({
    name,
    dims: shape,
    dataType: ELEMENT[dtype].onnx,
    dataLocation: EXTERNAL,
    externalData: [
      { key: "location", value: locate(file) },
      { key: "offset", value: String(offset) },
      { key: "length", value: String(length) },
    ],
  }));
}

function constantProtos(graph: Graph) {
  return [...graph.constants].map(([name, { dtype, shape, bytes }]) => ({
    name,
    dims: shape,
    dataType: ELEMENT[dtype].onnx,
    rawData: bytes,
  }));
}

function valueProto(value: NamedTensor) {
  return {
    name: value.name,
    type: { tensorType: { elemType: ELEMENT[value.dtype].onnx, shape: { dim: dimProtos(value.shape) } } },
  };
}

function dimProtos(shape: Shape) {
  return shape.map((dim) => (typeof dim === "number" ? { dimValue: dim } : { dimParam: dim }));
}
