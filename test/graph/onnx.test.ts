// The bytes of a model, read back by field number of onnx/onnx.proto3: names, dimensions, weights in place, constants once.
import { describe, expect, test } from "vitest";
import { Graph } from "../../src/graph/graph.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { gelu } from "../../src/graph/operators.js";
import { concat } from "../../src/graph/value.js";
import { Message } from "./protobuf.js";

// ModelProto 7 is the graph; GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output, 13 value_info.
const graphOf = (graph: Graph) => new Message(encodeModel(graph)).messages(7)[0]!;
const WEIGHT = {
  dtype: "f8_e4m3",
  shape: [3, 5],
  file: "/models/a b/w.safetensors",
  offset: 1234,
  length: 15,
} as const;

function network(): Graph {
  const graph = new Graph("network");
  const x = graph.input("x", "f32", [1, "t", 3]);
  const y = x.matmul(graph.external("w", WEIGHT).cast("f32")).add(1).add(1);
  const parts = concat([y, y], 1).chunk(5, 2);
  graph.output(
    "z",
    gelu(
      graph.scoped("blocks.0", () => parts[1]!.mul(parts[0]!)),
      "tanh",
    ),
  );
  return graph;
}

// ValueInfoProto: 1 name, 2 type; TypeProto 1 tensor_type; Tensor 1 elem_type, 2 shape; Shape 1 dim; Dimension 1 value, 2 param.
function valueOf(info: Message): { name: string; type: number | undefined; shape: (number | string)[] } {
  const tensor = info.messages(2)[0]!.messages(1)[0]!;
  const dims = tensor.messages(2)[0]!.messages(1);
  return { name: info.text(1), type: tensor.numbers(1)[0], shape: dims.map((dim) => dim.numbers(1)[0] ?? dim.text(2)) };
}

test("the model says its IR version, producer and operator sets", () => {
  const model = new Message(encodeModel(network()));
  expect([model.numbers(1), model.text(2)]).toEqual([[11], "qedit"]);
  expect(model.messages(8).map((set) => [set.text(1), set.numbers(2)[0]])).toEqual([
    ["", 23],
    ["com.microsoft", 1],
  ]);
});

describe("dimensions", () => {
  const graph = graphOf(network());
  const values = [11, 12, 13].flatMap((field) => graph.messages(field)).map(valueOf);

  test("of inputs and outputs are numbers or names", () => {
    expect(values.slice(0, 2)).toEqual([
      { name: "x", type: 1, shape: [1, "t", 3] },
      { name: "z", type: 1, shape: [1, "2*t", 1] },
    ]);
  });

  test("are known for every value that a node gives", () => {
    const known = new Set(values.map(({ name }) => name));
    const given = graph.messages(1).flatMap((node) => node.texts(2));
    expect(given.length).toBeGreaterThan(8);
    expect(given.filter((name) => !known.has(name))).toEqual([]);
  });

  test("are never anonymous", () => {
    expect(values.filter(({ shape }) => shape.some((dim) => dim === ""))).toEqual([]);
  });

  test("are said once for each value", () => {
    expect(new Set(values.map(({ name }) => name)).size).toBe(values.length);
  });
});

describe("weights", () => {
  test("stay in their file: location without the leading slash, offset and length, no bytes", () => {
    const graph = graphOf(network());
    // TensorProto: 1 dims, 2 data_type, 8 name, 9 raw_data, 13 external_data, 14 data_location.
    const weight = graph.messages(5).find((each) => each.text(8) === "w")!;
    expect(weight.messages(13).map((entry) => [entry.text(1), entry.text(2)])).toEqual([
      ["location", "models/a b/w.safetensors"],
      ["offset", "1234"],
      ["length", "15"],
    ]);
    expect([weight.numbers(1), weight.numbers(2), weight.numbers(14), weight.fields.has(9)]).toEqual([
      [3, 5],
      [17],
      [1],
      false,
    ]);
  });

  test("beyond 4 GiB keep their offset exactly", () => {
    const graph = new Graph("far");
    graph.external("w", { ...WEIGHT, offset: 20_430_000_001 });
    expect(graphOf(graph).messages(5)[0]!.messages(13)[1]!.text(2)).toBe("20430000001");
  });

  test("asked for twice are one initializer", () => {
    const graph = new Graph("twice");
    graph.external("w", WEIGHT);
    graph.external("w", WEIGHT);
    expect(graphOf(graph).messages(5)).toHaveLength(1);
  });

  test("whose range does not hold their shape are refused", () => {
    expect(() => new Graph("g").external("w", { ...WEIGHT, length: 16 })).toThrow(
      'internal: "w" f8_e4m3[3, 5] is 15 bytes, its range 16',
    );
    expect(() => new Graph("g").external("w", { ...WEIGHT, dtype: "bf16" })).toThrow("is 30 bytes, its range 15");
  });
});

describe("constants", () => {
  test("that are equal are stored once", () => {
    const graph = new Graph("constants");
    const first = graph.constant("f32", [2], [1, 2]);
    expect(graph.constant("f32", [2], [1, 2])).toBe(first);
    expect(graphOf(graph).messages(5)).toHaveLength(1);
  });

  test("of another type, shape or number are others", () => {
    const graph = new Graph("constants");
    graph.constant("f32", [1], [1]);
    graph.constant("i64", [1], [1]);
    graph.constant("f32", [], [1]);
    graph.constant("f32", [1], [2]);
    expect(graph.constants.size).toBe(4);
  });

  test("carry their dims and bytes", () => {
    const graph = new Graph("constants");
    graph.constant("i64", [2], [3, -1]);
    const [constant] = graphOf(graph).messages(5);
    expect([constant!.numbers(1), constant!.numbers(2), [...(constant!.fields.get(9)![0] as Uint8Array)]]).toEqual([
      [2],
      [7],
      [3, 0, 0, 0, 0, 0, 0, 0, ...Array(8).fill(255)],
    ]);
  });
});

describe("nodes", () => {
  test("are named by operator and scope, numbered when they would be the same", () => {
    expect(network().nodes.map(({ name }) => name)).toEqual([
      "Cast",
      "MatMul",
      "Add",
      "Add_1",
      "Concat",
      "Split",
      "blocks.0/Mul",
      "Gelu",
      "Identity",
    ]);
  });

  test("carry attributes of every kind with their type", () => {
    const graph = new Graph("attributes");
    const attributes = { whole: { int: -1 }, real: { float: 0.5 }, word: { text: "tanh" }, list: { ints: [2, -3] } };
    graph.node("Any", [graph.input("x", "f32", [1]), undefined], {
      shapes: [[1]],
      dtype: "f32",
      domain: "com.microsoft",
      attributes,
    });
    const node = graphOf(graph).messages(1)[0]!;
    // NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute, 7 domain. AttributeProto: 1 name, 2 f, 3 i, 4 s, 8 ints, 20 type.
    expect([node.texts(1), node.texts(2), node.text(3), node.text(4), node.text(7)]).toEqual([
      ["x", ""],
      ["Any"],
      "Any",
      "Any",
      "com.microsoft",
    ]);
    const [whole, real, word, list] = node.messages(5);
    expect([whole!.text(1), whole!.numbers(20), BigInt.asIntN(64, whole!.fields.get(3)![0] as bigint)]).toEqual([
      "whole",
      [2],
      -1n,
    ]);
    expect([
      real!.numbers(20),
      new DataView((real!.fields.get(2)![0] as Uint8Array).slice().buffer).getFloat32(0, true),
    ]).toEqual([[1], 0.5]);
    expect([word!.numbers(20), word!.text(4)]).toEqual([[3], "tanh"]);
    expect([list!.numbers(20), list!.numbers(8)]).toEqual([[7], [2, -3]]);
  });

  test("of a scope that throws leave the scope", () => {
    const graph = new Graph("scopes");
    expect(() =>
      graph.scoped("a", () => {
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(graph.place("Add")).toBe("Add");
  });
});

test("nodes that read weights alone come first, so that ONNX Runtime widens each weight just before its product", () => {
  const graph = new Graph("products");
  let x = graph.input("x", "f32", ["t", 3]);
  for (const name of ["a", "b"])
    x = x.matmul(graph.external(name, { ...WEIGHT, shape: [3, 3], length: 9 }).cast("f32"));
  graph.output("y", x);
  expect(
    graphOf(graph)
      .messages(1)
      .map((node) => node.text(4)),
  ).toEqual(["Cast", "Cast", "MatMul", "MatMul", "Identity"]);
});

test("a name stands for one input and one output", () => {
  const graph = new Graph("names");
  const x = graph.input("x", "f32", [1]);
  graph.output("y", x);
  expect(() => graph.input("x", "f32", [1])).toThrow('internal: graph input "x" is declared twice');
  expect(() => graph.output("y", x)).toThrow('internal: graph output "y" is declared twice');
});
