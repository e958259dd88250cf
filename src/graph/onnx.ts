// A Graph as the bytes of an ONNX ModelProto. The schema below holds the messages and fields that qedit writes, with the
// field numbers of onnx/onnx.proto3 (github.com/onnx/onnx, v1.18.0, Apache-2.0).
import protobuf from "protobufjs/minimal.js";
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

/** How a field is written: numbers as varints or 32-bit floats, or a message of its own. */
type Scalar = "int" | "float" | "string" | "bytes";

/** A field: its number, its type, and whether it may stand several times. */
type Field = readonly [id: number, type: Scalar | MessageName, repeated?: "repeated"];

type MessageName =
  | "ModelProto"
  | "OperatorSetIdProto"
  | "GraphProto"
  | "NodeProto"
  | "AttributeProto"
  | "TensorProto"
  | "StringStringEntryProto"
  | "ValueInfoProto"
  | "TypeProto"
  | "TensorTypeProto"
  | "TensorShapeProto"
  | "DimensionProto";

/** The fields of each message, in the order of their numbers. */
const SCHEMA: Readonly<Record<MessageName, Readonly<Record<string, Field>>>> = {
  ModelProto: {
    irVersion: [1, "int"],
    producerName: [2, "string"],
    graph: [7, "GraphProto"],
    opsetImport: [8, "OperatorSetIdProto", "repeated"],
  },
  OperatorSetIdProto: { domain: [1, "string"], version: [2, "int"] },
  GraphProto: {
    node: [1, "NodeProto", "repeated"],
    name: [2, "string"],
    initializer: [5, "TensorProto", "repeated"],
    input: [11, "ValueInfoProto", "repeated"],
    output: [12, "ValueInfoProto", "repeated"],
    valueInfo: [13, "ValueInfoProto", "repeated"],
  },
  NodeProto: {
    input: [1, "string", "repeated"],
    output: [2, "string", "repeated"],
    name: [3, "string"],
    opType: [4, "string"],
    attribute: [5, "AttributeProto", "repeated"],
    domain: [7, "string"],
  },
  AttributeProto: {
    name: [1, "string"],
    f: [2, "float"],
    i: [3, "int"],
    s: [4, "bytes"],
    g: [6, "GraphProto"],
    ints: [8, "int", "repeated"],
    type: [20, "int"],
  },
  TensorProto: {
    dims: [1, "int", "repeated"],
    dataType: [2, "int"],
    name: [8, "string"],
    rawData: [9, "bytes"],
    externalData: [13, "StringStringEntryProto", "repeated"],
    dataLocation: [14, "int"],
  },
  StringStringEntryProto: { key: [1, "string"], value: [2, "string"] },
  ValueInfoProto: { name: [1, "string"], type: [2, "TypeProto"] },
  TypeProto: { tensorType: [1, "TensorTypeProto"] },
  TensorTypeProto: { elemType: [1, "int"], shape: [2, "TensorShapeProto"] },
  TensorShapeProto: { dim: [1, "DimensionProto", "repeated"] },
  DimensionProto: { dimValue: [1, "int"], dimParam: [2, "string"] },
};

/** The same, as lists to go through. */
const FIELDS = new Map(Object.entries(SCHEMA).map(([name, fields]) => [name, Object.entries(fields)]));

/** Wire types of the encoding (protobuf.dev/programming-guides/encoding). */
const WIRE = { varint: 0, bytes: 2, float: 5 };

/**
 * The graph as an ONNX model. Weights are external data: `locate` gives the location of a file, by default its absolute path without the root.
 */
export function encodeModel(graph: Graph, locate: (file: string) => string = locationOf): Uint8Array {
  const { name, nodes, values } = graph;
  const whole = { name, nodes, values, inputs: [...graph.inputs.values()], outputs: [...graph.outputs.values()] };
  const model = {
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
  };
  const writer = protobuf.Writer.create();
  writeMessage(writer, "ModelProto", model);
  return writer.finish();
}

function writeMessage(writer: protobuf.Writer, name: MessageName, message: object): void {
  const values = message as Readonly<Record<string, unknown>>;
  for (const [key, field] of FIELDS.get(name)!) {
    const value = values[key];
    if (value !== undefined) writeField(writer, field, value);
  }
}

// Repeated integers stand packed in one field; zeros and empty texts are what a field is without a value, and left out.
function writeField(writer: protobuf.Writer, [id, type, repeated]: Field, value: unknown): void {
  if (type === "int" && repeated) {
    const numbers = value as readonly number[];
    if (numbers.length === 0) return;
    writer.uint32((id << 3) | WIRE.bytes).fork();
    for (const each of numbers) writer.int64(each);
    writer.ldelim();
  } else if (repeated) for (const each of value as readonly unknown[]) writeValue(writer, id, { type, value: each });
  else if (value !== 0 && value !== "") writeValue(writer, id, { type, value });
}

function writeValue(writer: protobuf.Writer, id: number, { type, value }: { type: Field[1]; value: unknown }): void {
  if (type === "int") writer.uint32((id << 3) | WIRE.varint).int64(value as number);
  else if (type === "float") writer.uint32((id << 3) | WIRE.float).float(value as number);
  else if (type === "string") writer.uint32((id << 3) | WIRE.bytes).string(value as string);
  else if (type === "bytes") writer.uint32((id << 3) | WIRE.bytes).bytes(value as Uint8Array);
  else {
    writer.uint32((id << 3) | WIRE.bytes).fork();
    writeMessage(writer, type, value as object);
    writer.ldelim();
  }
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
