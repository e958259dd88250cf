// Loops against plain JavaScript: what they carry, what they read from outside, and how they are written.
import { describe, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { type Carried, choose, loop } from "../../src/graph/control-flow.js";
import { Graph } from "../../src/graph/graph.js";
import { gather, range, refuseUnless } from "../../src/graph/indexing.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { concat, type Value } from "../../src/graph/value.js";
import { float32, type Tensors, tensor } from "../../src/std/tensor.js";
import { Message } from "./protobuf.js";
import { evaluate, evaluateOne, numbers } from "./run.js";

const count = (number: number) => tensor("int64", [1], BigInt64Array.of(BigInt(number)));
const COUNTS = [0, 1, 2, 7];

describe("a loop", () => {
  test.each(COUNTS)("runs %i times, and gives what the last iteration gave", async (trips) => {
    const found = await evaluateOne(
      { trips: count(trips), x: float32([2], Float32Array.of(1, 3)) },
      ({ trips, x }, graph) => loop(graph, { trips: trips!, carried: [{ initial: x! }] }, ([x]) => [x!.mul(2).add(1)]),
    );
    let wanted = [1, 3];
    for (let step = 0; step < trips; step++) wanted = wanted.map((value) => value * 2 + 1);
    expect([...found.data]).toEqual(wanted);
  });

  test("counts its iterations from 0, and reads values from outside", async () => {
    const numbers = float32([4], Float32Array.of(5, 7, 11, 13));
    const found = await evaluateOne({ trips: count(4), numbers }, ({ trips, numbers }, graph) => {
      const initial = graph.constant("f32", [1], [0]);
      return loop(graph, { trips: trips!, carried: [{ initial }] }, ([sum], i) => [
        sum!.mul(10).add(gather(numbers!, i)).add(i.cast("f32")),
      ]);
    });
    expect([...found.data]).toEqual([5 * 1000 + 8 * 100 + 13 * 10 + 16]);
  });

  test("carries several values, also exchanged and unchanged ones", async () => {
    const feeds = { trips: count(3), a: float32([1], Float32Array.of(1)), b: float32([1], Float32Array.of(2)) };
    const found = await evaluate(feeds, ({ trips, a, b }, graph) =>
      loop(graph, { trips: trips!, carried: [{ initial: a! }, { initial: b! }, { initial: a! }] }, ([a, b, same]) => [
        b!,
        a!,
        same!,
      ]),
    );
    expect(found.map(({ data }) => data[0])).toEqual([2, 1, 1]);
  });

  test.each([0, 1, 4])("carries a value that grows, in %i iterations", async (trips) => {
    const found = await evaluateOne({ trips: count(trips) }, ({ trips }, graph) => {
      const initial = graph.constant("i64", [1], [-1]);
      const carried = [{ initial, shape: ["so far"], result: ["all"] }];
      return loop(graph, { trips: trips!, carried }, ([x], i) => [concat([x!, range(i, "i")], 0)]);
    });
    const rows = Array.from({ length: trips }, (_, row) => Array.from({ length: row }, (_, i) => i));
    expect([...found.data].map(Number)).toEqual([-1, ...rows.flat()]);
  });

  test("runs inside another one", async () => {
    const found = await evaluateOne({ trips: count(3) }, ({ trips }, graph) => {
      const initial = graph.constant("i64", [1], [0]);
      return loop(graph, { trips: trips!, carried: [{ initial }] }, ([outer], i) =>
        loop(graph, { trips: i.add(1), carried: [{ initial: outer! }] }, ([inner], j) => [inner!.mul(3).add(i).add(j)]),
      );
    });
    let wanted = 0;
    for (let i = 0; i < 3; i++) for (let j = 0; j <= i; j++) wanted = wanted * 3 + i + j;
    expect(found.data).toEqual(BigInt64Array.of(BigInt(wanted)));
  });

  test("serves inputs of other lengths in one session", async () => {
    const graph = new Graph("lengths");
    const trips = graph.input("trips", "i64", [1]);
    const x = graph.input("x", "f32", ["n", 3]);
    const [out] = loop(graph, { trips, carried: [{ initial: x }] }, ([x]) => [
      x!.add(x!.reshape([multiplied(x!)]).reshapeLike(x!)),
    ]);
    graph.output("out", out!);
    const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
    await withSession(engine, await modelOf(graph, "none"), async (session) => {
      for (const [rows, times] of [
        [1, 2],
        [4, 3],
        [2, 1],
      ] as const) {
        const x = float32(
          [rows, 3],
          Float32Array.from({ length: rows * 3 }, (_, i) => i),
        );
        const { out } = (await session.run({ trips: count(times), x })) as Tensors;
        expect(out).toEqual(
          float32(
            [rows, 3],
            x.data.map((value) => value * 2 ** times),
          ),
        );
      }
    });
  });
});

function multiplied(x: Value): string {
  return `${x.dim(1)}*${x.dim(0)}`;
}

describe("a choice", () => {
  test.each([1, 0])(
    "runs the way that its condition of %i says, which reads values from outside",
    async (condition) => {
      const feeds = { condition: count(condition), x: float32([2], Float32Array.of(3, 5)) };
      const found = await evaluateOne(
        feeds,
        ({ condition, x }) => choose(condition!.equals(1), { yes: () => x!.mul(2), no: () => x!.mul(x!).sub(1) }),
        { x: ["n"] },
      );
      expect([...found.data]).toEqual(condition === 1 ? [6, 10] : [8, 24]);
    },
  );

  test("does not run the other way", async () => {
    const found = await evaluateOne({ condition: count(1), x: numbers([2]) }, ({ condition, x }) => {
      const no = () => refuseUnless(x!, condition!, "this must not run");
      return choose(condition!.equals(1), { yes: () => x!, no });
    });
    expect(found).toEqual(numbers([2]));
  });

  test.each([0, 1])("gives another length by condition %i where its shape says that they differ", async (condition) => {
    const found = await evaluateOne(
      { condition: count(condition), x: numbers([2]) },
      ({ condition, x }) =>
        choose(condition!.equals(1), { yes: () => concat([x!, x!], 0), no: () => x!, shape: ["some"] }),
      { x: ["n"] },
    );
    const { data } = numbers([2]);
    expect([...found.data]).toEqual(condition === 1 ? [...data, ...data] : [...data]);
  });

  test("of another shape than it says is refused", () => {
    const graph = new Graph("wrong");
    const [x, condition] = [graph.input("x", "f32", ["n", 3]), graph.input("condition", "bool", [1])];
    const choice = (shape: readonly (number | string)[]) => () =>
      choose(condition, { yes: () => x, no: () => concat([x, x], 0), shape });
    expect(choice(["some", 3])).not.toThrow();
    for (const shape of [["some", 4], ["some"], [3, 3]])
      expect(choice(shape)).toThrow("Cannot choose between f32[n, 3] and f32[2*n, 3] in");
  });

  test.each([
    ["lengths", (x: Value) => concat([x, x], 0), "Cannot choose between f32[n] and f32[2*n] in"],
    ["types", (x: Value) => x.cast("i64"), "Cannot choose between f32[n] and i64[n] in"],
  ])("between two %s is refused", (_, no, message) => {
    const graph = new Graph("wrong");
    const [x, condition] = [graph.input("x", "f32", ["n"]), graph.input("condition", "bool", [1])];
    expect(() => choose(condition, { yes: () => x, no: () => no(x) })).toThrow(message);
    expect(() => choose(x, { yes: () => x, no: () => x })).toThrow("Cannot choose by x f32[n]: bool[1] is wanted");
  });
});

describe("what does not fit is refused where it is written", () => {
  const looped = (carried: (x: Value) => Carried, next: (x: Value) => Value[]) => () => {
    const graph = new Graph("wrong");
    const x = graph.input("x", "f32", ["n", 3]);
    loop(graph, { trips: graph.input("trips", "i64", [1]), carried: [carried(x)] }, ([x]) => next(x!));
  };

  test.each([
    [
      "another length",
      (x: Value) => [x.slice(1, 0, 2)],
      'Cannot carry Slice f32[n, 2] where f32[n, 3] is carried in "Loop"',
    ],
    ["another type", (x: Value) => [x.cast("f16")], 'Cannot carry Cast f16[n, 3] where f32[n, 3] is carried in "Loop"'],
    [
      "a length that changes",
      (x: Value) => [concat([x, x], 0)],
      'Cannot carry Concat f32[2*n, 3] where f32[n, 3] is carried in "Loop"',
    ],
    ["more values", (x: Value) => [x, x], 'Cannot carry 2 values of 1 in "Loop"'],
  ])("%s", (_, next, message) => {
    expect(looped((initial) => ({ initial }), next)).toThrow(message);
  });

  test("a first value of another rank", () => {
    const carried = (initial: Value) => ({ initial, shape: ["rows"], result: ["all"] });
    expect(looped(carried, (x) => [x])).toThrow("Cannot begin with x f32[n, 3] where f32[rows] is carried");
  });

  test("inputs and outputs inside a body", () => {
    const graph = new Graph("inside");
    const trips = graph.input("trips", "i64", [1]);
    const carried = [{ initial: trips }];
    expect(() => loop(graph, { trips, carried }, () => [graph.input("x", "i64", [1])])).toThrow(
      'input "x" is declared in a body',
    );
    expect(() =>
      loop(graph, { trips, carried }, ([x]) => {
        graph.output("y", x!);
        return [x!];
      }),
    ).toThrow('output "y" is declared in a body');
  });
});

// NodeProto: 1 input, 2 output, 4 op_type, 5 attribute; AttributeProto: 6 g, 20 type; GraphProto: 1 node, 5 initializer, 11 input, 12 output, 13 value_info.
describe("as ONNX", () => {
  const weight = (name: string) =>
    ({ dtype: "f8_e4m3", shape: [3, 3], file: `/models/${name}`, offset: 8, length: 9 }) as const;
  const graph = new Graph("looped");
  const trips = graph.input("trips", "i64", [1]);
  const x = graph.input("x", "f32", ["n", 3]);
  const [out] = loop(
    graph,
    { trips, carried: [{ initial: x.matmul(graph.external("a", weight("a")).cast("f32")) }] },
    ([x]) => {
      const widened = graph.once("widened", () => graph.external("a", weight("a")).cast("f32"));
      return [
        x!
          .matmul(widened)
          .matmul(graph.external("b", weight("b")).cast("f32"))
          .mul(2),
      ];
    },
  );
  graph.output("out", out!.mul(graph.once("widened", () => graph.external("a", weight("a")).cast("f32")).sum()));
  const encoded = new Message(encodeModel(graph)).messages(7)[0]!;
  const node = encoded.messages(1).find((each) => each.text(4) === "Loop")!;
  const [attribute] = node.messages(5);
  const body = attribute!.messages(6)[0]!;

  test("the body is a graph attribute, with two inputs more than it carries and one output more", () => {
    expect([attribute!.text(1), attribute!.numbers(20)]).toEqual(["body", [5]]);
    expect([body.messages(11).length, body.messages(12).length]).toEqual([3, 2]);
  });

  test("weights and constants are initializers of the outermost graph, each once", () => {
    expect(body.messages(5)).toEqual([]);
    const names = encoded.messages(5).map((each) => each.text(8));
    expect(names.filter((name) => name === "a" || name === "b").sort()).toEqual(["a", "b"]);
  });

  test("no two values have one name, in whichever graph they are", () => {
    const made = [encoded, body].flatMap((each) => [
      ...each.messages(11).map((value) => value.text(1)),
      ...each.messages(1).flatMap((each) => each.texts(2)),
    ]);
    expect(made.length).toBeGreaterThan(10);
    expect(new Set(made).size).toBe(made.length);
  });

  test("every value of a body has its dimensions", () => {
    const known = new Set([11, 12, 13].flatMap((field) => body.messages(field).map((value) => value.text(1))));
    const given = body.messages(1).flatMap((each) => each.texts(2));
    expect(given.filter((name) => !known.has(name))).toEqual([]);
  });

  test("nodes that read weights alone come first in a body too", () => {
    expect(
      body
        .messages(1)
        .map((each) => each.text(4))
        .slice(0, 3),
    ).toEqual(["Cast", "Cast", "Reshape"]);
  });

  test("what a body made is not shared with the graph around it", () => {
    const casts = encoded.messages(1).filter((each) => each.text(4) === "Cast");
    expect(casts).toHaveLength(2);
  });
});
