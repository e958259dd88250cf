// Requests and answers of KServe V2 over HTTP: what is read, and what is refused before anything is allocated.
import { describe, expect, test } from "vitest";
import { readInferRequest, writeInferAnswer } from "../../src/kserve/json-codec.js";
import { bytesTensor, numbersOf, ofTensor, toFloat32, type V2Tensor } from "../../src/kserve/v2-tensor.js";
import { float32 } from "../../src/std/tensor.js";

/** A request of JSON with bytes behind it. */
function body(json: unknown, ...parts: readonly Uint8Array[]) {
  const head = Buffer.from(typeof json === "string" ? json : JSON.stringify(json));
  return {
    bytes: Buffer.concat([head, ...parts]),
    jsonLength: parts.length === 0 ? undefined : String(head.length),
    rawInput: "IMAGE",
  };
}

const read = (json: unknown, ...parts: readonly Uint8Array[]) => readInferRequest(body(json, ...parts));
const only = (json: object, ...parts: readonly Uint8Array[]): V2Tensor =>
  read({ inputs: [{ name: "x", ...json }] }, ...parts).tensors.get("x")!;
const binary = (datatype: string, shape: readonly number[], bytes: Uint8Array) =>
  only({ datatype, shape, parameters: { binary_data_size: bytes.length } }, bytes);
const values = (tensor: V2Tensor) => (tensor.datatype === "BYTES" ? [] : numbersOf(tensor));

describe("tensors are read", () => {
  test.each([
    ["FP32", [2, 3], [1.5, 2, -3, 4, 5, 6]],
    ["INT32", [2], [-7, 2147483647]],
    ["UINT8", [3], [0, 7, 255]],
    ["BOOL", [2], [true, false]],
  ] as const)("%s from JSON, flat and in lists", (datatype, shape, data) => {
    expect(values(only({ datatype, shape, data }))).toEqual(data);
    const [rows, columns] = [shape[0], shape[1]];
    if (columns === undefined) return;
    const nested = Array.from({ length: rows }, (_, row) => data.slice(row * columns, (row + 1) * columns));
    expect(values(only({ datatype, shape, data: nested }))).toEqual(data);
  });

  test("INT64 from JSON", () => {
    expect(values(only({ datatype: "INT64", shape: [1], data: [-42] }))).toEqual([-42n]);
  });

  test("INT64 beyond 2^53 from a text", () => {
    expect(values(only({ datatype: "INT64", shape: [1], data: ["9223372036854775807"] }))).toEqual([2n ** 63n - 1n]);
  });

  test("INT64 beyond 2^53 from bytes", () => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(-(2n ** 62n) + 1n);
    expect(values(binary("INT64", [1], bytes))).toEqual([-(2n ** 62n) + 1n]);
  });

  test("floats of 16 bits from bytes, exactly", () => {
    // 1.5, -2 and the smallest subnormal.
    const half = new Uint8Array(Uint16Array.of(0x3e00, 0xc000, 0x0001).buffer);
    expect([...toFloat32(binary("FP16", [3], half))]).toEqual([1.5, -2, 2 ** -24]);
    const brain = new Uint8Array(Uint16Array.of(0x3fc0, 0xc000).buffer);
    expect([...toFloat32(binary("BF16", [1, 2], brain))]).toEqual([1.5, -2]);
  });

  test("tensors one behind the other, at any place of the body", () => {
    const odd = Buffer.from([7]);
    const floats = Buffer.from(Float32Array.of(0.1, 2).buffer);
    const { tensors } = read(
      {
        inputs: [
          { name: "a", datatype: "UINT8", shape: [1], parameters: { binary_data_size: 1 } },
          { name: "b", datatype: "INT32", shape: [1], data: [5] },
          { name: "c", datatype: "FP32", shape: [2], parameters: { binary_data_size: 8 } },
        ],
      },
      odd,
      floats,
    );
    expect([...tensors.values()].map(values)).toEqual([[7], [5], [Math.fround(0.1), 2]]);
  });

  test("byte strings from bytes, from texts and from base64", () => {
    const elements = (tensor: V2Tensor) =>
      (tensor as { elements: readonly Uint8Array[] }).elements.map((each) => Buffer.from(each).toString("latin1"));
    const bytes = Buffer.from([2, 0, 0, 0, 0x68, 0x69, 0, 0, 0, 0, 1, 0, 0, 0, 0xff]);
    expect(elements(binary("BYTES", [3], bytes))).toEqual(["hi", "", "\xff"]);
    expect(elements(only({ datatype: "BYTES", shape: [1], data: ["hi"] }))).toEqual(["hi"]);
    const base64 = { datatype: "BYTES", shape: [1], data: ["/w=="], parameters: { content_type: "base64" } };
    expect(elements(only(base64))).toEqual(["\xff"]);
  });

  test("a body without JSON as the one element of its input", () => {
    const request = readInferRequest({ bytes: Buffer.from("picture"), jsonLength: "0", rawInput: "IMAGE" });
    expect(request.isBinary).toBe(true);
    expect([...request.tensors.keys()]).toEqual(["IMAGE"]);
  });
});

describe("a request is refused by name", () => {
  const refusals: Readonly<Record<string, readonly [() => unknown, RegExp]>> = {
    "a shape that holds more than its bytes": [() => binary("FP32", [4], Buffer.alloc(12)), /"x".*16 bytes, found 12/],
    "a shape that holds less": [() => binary("FP32", [2], Buffer.alloc(12)), /"x".*8 bytes, found 12/],
    "a shape beyond all memory": [() => binary("FP32", [2 ** 40], Buffer.alloc(4)), /"x"/],
    "byte strings beyond all memory": [() => binary("BYTES", [2 ** 40], Buffer.alloc(4)), /"x".*at most 1024/],
    "byte strings that are not there": [() => binary("BYTES", [9], Buffer.alloc(4)), /"x".*at least 36 bytes, found 4/],
    "a million empty byte strings": [() => binary("BYTES", [2 ** 20], Buffer.alloc(2 ** 22)), /"x".*at most 1024/],
    "a shape whose product is no number": [
      () => only({ datatype: "FP32", shape: [2 ** 30, 2 ** 30], data: [] }),
      /"x"/,
    ],
    "a negative length": [() => only({ datatype: "FP32", shape: [-1], data: [] }), /"x".*shape/],
    "a length that is no whole number": [() => only({ datatype: "FP32", shape: [1.5], data: [1] }), /"x".*shape/],
    "more dimensions than tensors have": [() => only({ datatype: "FP32", shape: Array(9).fill(1), data: [1] }), /"x"/],
    "an unknown datatype": [() => only({ datatype: "FP8", shape: [1], data: [1] }), /"x".*"FP8"/],
    "a datatype of an object's own": [() => only({ datatype: "toString", shape: [1], data: [1] }), /"x".*toString/],
    "half floats as JSON": [() => only({ datatype: "FP16", shape: [1], data: [1] }), /"x".*FP16 has no form in JSON/],
    "brain floats as JSON": [() => only({ datatype: "BF16", shape: [1], data: [1] }), /"x".*BF16 has no form in JSON/],
    "fewer values than the shape": [() => only({ datatype: "FP32", shape: [3], data: [1, 2] }), /"x".*3 elements.*2/],
    "lists of another form": [() => only({ datatype: "FP32", shape: [2, 2], data: [[1, 2, 3], [4]] }), /"x".*lists/],
    "a value out of range": [() => only({ datatype: "UINT8", shape: [1], data: [256] }), /"x".*256/],
    "a value of another type": [() => only({ datatype: "FP32", shape: [1], data: ["1"] }), /"x"/],
    "a number beyond 2^53 as JSON": [
      () => only({ datatype: "INT64", shape: [1], data: [2 ** 60] }),
      /"x": a number beyond 2\^53 loses digits in JSON: send it as a text/,
    ],
    "a byte string that ends outside": [() => binary("BYTES", [1], Buffer.from([9, 0, 0, 0, 1])), /"x".*element 0/],
    "a byte string of 4 GB": [() => binary("BYTES", [1], Buffer.from([255, 255, 255, 255])), /"x".*element 0/],
    "bytes behind the last string": [() => binary("BYTES", [1], Buffer.alloc(6)), /"x".*found 6/],
    "truths of other bytes": [() => binary("BOOL", [1], Buffer.from([2])), /"x".*BOOL/],
    "data and bytes": [
      () => only({ datatype: "UINT8", shape: [1], data: [1], parameters: { binary_data_size: 1 } }, Buffer.alloc(1)),
      /"x".*both/,
    ],
    "neither data nor bytes": [() => only({ datatype: "UINT8", shape: [1] }), /"x".*neither/],
    "shared memory": [
      () => only({ datatype: "UINT8", shape: [1], parameters: { shared_memory_region: "r" } }),
      /shared_memory_region/,
    ],
    "a size of bytes that is no number": [
      () => only({ datatype: "UINT8", shape: [1], parameters: { binary_data_size: "1" } }, Buffer.alloc(1)),
      /binary_data_size/,
    ],
    "more bytes than there are": [
      () => only({ datatype: "UINT8", shape: [9], parameters: { binary_data_size: 9 } }, Buffer.alloc(1)),
      /"x".*9.*1 bytes follow/,
    ],
    "bytes that belong to no input": [() => read({ inputs: [] }, Buffer.alloc(3)), /3 bytes/],
    "an input that is given twice": [
      () => read({ inputs: Array(2).fill({ name: "x", datatype: "UINT8", shape: [1], data: [1] }) }),
      /"x" is given twice/,
    ],
    "an unknown key": [() => read({ inputs: [], input: [] }), /"input"/],
    "no inputs": [() => read({}), /"inputs"/],
    "no JSON": [() => read("{"), /not JSON/],
    "JSON that is no object": [() => read("[]"), /no object/],
    "JSON that nests without end": [() => read("[".repeat(1000)), /nests deeper/],
    "text that is no UTF-8": [
      () => readInferRequest({ bytes: Buffer.from([0xff]), jsonLength: undefined, rawInput: undefined }),
      /UTF-8/,
    ],
    "a classification": [
      () => read({ inputs: [], outputs: [{ name: "y", parameters: { classification: 2 } }] }),
      /classification/,
    ],
    "a sequence": [() => read({ inputs: [], parameters: { sequence_id: 7 } }), /sequence_id/],
    "a body without JSON where shapes are needed": [
      () => readInferRequest({ bytes: Buffer.from("x"), jsonLength: "0", rawInput: undefined }),
      /shapes/,
    ],
    ...Object.fromEntries(
      ["99999", "-1", "1e3", "0x10", " 5", "", "9007199254740993"].map((length) => [
        `a header of length "${length}"`,
        [() => readInferRequest({ ...body({ inputs: [] }), jsonLength: length }), /Inference-Header-Content-Length/],
      ]),
    ),
  };

  test.each(Object.entries(refusals))("%s", (_, [request, message]) => {
    expect(request).toThrow(expect.objectContaining({ status: 400, message: expect.stringMatching(message) }));
  });
});

describe("an answer is written", () => {
  const answer = {
    id: "7",
    model: "decode",
    outputs: [
      ofTensor("y", float32([1, 2], Float32Array.of(0.5, -1))),
      bytesTensor("z", ["hi"]),
      bytesTensor("p", [Buffer.from([255])]),
    ],
    parameters: {},
  };

  test("as JSON, pictures in base64", () => {
    const { body: bytes, jsonLength } = writeInferAnswer(answer, { wanted: undefined, isBinary: false });
    expect(jsonLength).toBeUndefined();
    expect(JSON.parse(Buffer.from(bytes).toString())).toEqual({
      model_name: "decode",
      model_version: "1",
      id: "7",
      outputs: [
        { name: "y", datatype: "FP32", shape: [1, 2], data: [0.5, -1] },
        { name: "z", datatype: "BYTES", shape: [1], data: ["hi"] },
        { name: "p", datatype: "BYTES", shape: [1], data: ["/w=="], parameters: { content_type: "base64" } },
      ],
    });
  });

  test("with bytes for the outputs that want them", () => {
    const wanted = [
      { name: "y", isBinary: true },
      { name: "z", isBinary: false },
      { name: "p", isBinary: true },
    ];
    const { body: bytes, jsonLength } = writeInferAnswer(answer, { wanted, isBinary: false });
    const { outputs } = JSON.parse(Buffer.from(bytes).subarray(0, jsonLength).toString());
    expect(outputs[0].parameters).toEqual({ binary_data_size: 8 });
    expect(outputs[1].data).toEqual(["hi"]);
    expect([...Buffer.from(bytes).subarray(jsonLength)]).toEqual([0, 0, 0, 63, 0, 0, 128, 191, 1, 0, 0, 0, 255]);
  });
});
