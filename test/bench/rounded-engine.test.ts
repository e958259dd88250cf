// Graphs of 16 bits on the CPU: every result is rounded to its type, and the networks in a GPU's types stay as near to the reference as
// bench:gpu asks of the GPU.
import { afterAll, describe, expect, test } from "vitest";
import { tinyParity } from "../../bench/gpu/parity.js";
import { roundedEngine } from "../../bench/rounded-engine.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from "../../src/std/half-floats.js";
import { numbers } from "../graph/run.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
afterAll(() => engine.dispose());

const ROUND = {
  bf16: (values: Float32Array) => fromBfloat16(toBfloat16(values)),
  f16: (values: Float32Array) => fromFloat16(toFloat16(values)),
};

test.each(["bf16", "f16"] as const)("every operator's result is rounded to %s", async (dtype) => {
  const x = numbers([3, 4]);
  const graph = new Graph("x² + 1");
  const value = graph.input("x", "f32", ["n", 4]).cast(dtype);
  graph.output("y", value.mul(value).add(1).cast("f32"));
  const { y } = await withSession(roundedEngine(engine), await modelOf(graph, "none"), (session) => session.run({ x }));
  const round = ROUND[dtype];
  const squares = round(round(x.data).map((each) => each * each));
  expect([...(y!.data as Float32Array)]).toEqual([...round(squares.map((each) => each + 1))]);
});

describe("the tiny networks in the types of CUDA", async () => {
  const rows = await tinyParity(roundedEngine(engine, { provider: "cuda", index: 0, threads: 0 }));

  test("compute in 16 bits where CUDA does", () => {
    expect(Object.fromEntries(rows.map(({ network, compute }) => [network, compute]))).toMatchObject({
      "vae encode": "f16",
      "vae decode": "f16",
      language: "f32",
      transformer: "bf16",
    });
  });

  test.each(rows.map((row) => [row.network, row] as const))(
    "%s is as near to the reference as its type allows, and no nearer",
    (_, { compute, error, tolerance }) => {
      expect(error).toBeLessThan(tolerance);
      if (compute !== "f32") expect(error).toBeGreaterThan(1e-4);
    },
  );
});
