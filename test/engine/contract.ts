// The contract suite of engines, whichever thread or process their sessions live in.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Engine, type KeptTensors, modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { concat } from "../../src/graph/value.js";
import { float32, given, tensor } from "../../src/std/tensor.js";
import { affineModel } from "./models.js";

/** Opens a new engine on the CPU. */
export type OpenEngine = () => Promise<Engine>;

/** A failure that a user can meet: its code, and a message of one line. */
export const ENGINE_FAILURE = { code: "QEDIT_E_ENGINE", message: expect.stringMatching(/^[^\n]+$/) as string };

/** Runs the suite over engines of one kind. */
export function engineContract(name: string, openEngine: OpenEngine): void {
  describe(name, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await openEngine();
    });
    afterAll(() => engine.dispose());

    test("computes outputs of the right type, shape and numbers", async () => {
      await withSession(engine, affineModel(), async (session) => {
        const { y } = await session.run({ x: float32([2, 3], Float32Array.of(0, 1, 2, -1, 0.5, 10)) });
        expect(y).toEqual(float32([2, 3], Float32Array.of(1, 3, 5, -1, 2, 21)));
      });
    });

    test("serves several sizes in one session", async () => {
      await withSession(engine, affineModel(), async (session) => {
        for (const rows of [1, 4, 2])
          expect((await session.run({ x: float32([rows, 3]) }))["y"]).toEqual(
            float32([rows, 3], new Float32Array(rows * 3).fill(1)),
          );
      });
    });

    test("takes and returns tensors without elements", async () => {
      await withSession(engine, affineModel(), async (session) => {
        expect((await session.run({ x: float32([0, 3]) }))["y"]).toEqual(float32([0, 3]));
      });
    });

    test("concatenates an empty tensor and another one", async () => {
      const graph = new Graph("join");
      graph.output("y", concat([graph.input("a", "f32", ["m", 2]), graph.input("b", "f32", ["n", 2])], 0));
      await withSession(engine, await modelOf(graph, "none"), async (session) => {
        const { y } = await session.run({ a: float32([0, 2]), b: float32([1, 2], Float32Array.of(5, 6)) });
        expect(y).toEqual(float32([1, 2], Float32Array.of(5, 6)));
      });
    });

    test("takes and returns int64, int32 and uint8", async () => {
      const graph = new Graph("types");
      for (const dtype of ["i64", "i32", "u8"] as const)
        graph.output(`${dtype}_out`, graph.input(dtype, dtype, ["n"]).add(1));
      await withSession(engine, await modelOf(graph, "none"), async (session) => {
        const large = 2n ** 53n + 1n;
        const outputs = await session.run({
          i64: tensor("int64", [2], BigInt64Array.of(large, -2n)),
          i32: tensor("int32", [1], Int32Array.of(-8)),
          u8: tensor("uint8", [3], Uint8Array.of(0, 7, 254)),
        });
        expect(outputs).toEqual({
          i64_out: tensor("int64", [2], BigInt64Array.of(large + 1n, -1n)),
          i32_out: tensor("int32", [1], Int32Array.of(-7)),
          u8_out: tensor("uint8", [3], Uint8Array.of(1, 8, 255)),
        });
      });
    });

    test("keeps tensors that were sent and results of runs for later runs, also of other sessions", async () => {
      const [first, second] = [await engine.open(affineModel()), await engine.open(affineModel())];
      const { x } = await first.keep!({ x: float32([1, 3], Float32Array.of(1, 2, 3)) });
      expect(x).toMatchObject({ type: "float32", shape: [1, 3] });
      const { y } = (await first.runKept!({ x: x! }, "all")) as KeptTensors;
      expect(y).toMatchObject({ type: "float32", shape: [1, 3] });
      for (const session of [second, first, second])
        expect(await session.run({ x: y! })).toEqual({ y: float32([1, 3], Float32Array.of(7, 11, 15)) });
      expect(await second.run({ x: x! })).toEqual({ y: float32([1, 3], Float32Array.of(3, 5, 7)) });
      await first.dispose();
      expect(await second.run({ x: y! })).toEqual({ y: float32([1, 3], Float32Array.of(7, 11, 15)) });
      for (let time = 0; time < 2; time++) await Promise.all([x!.dispose(), y!.dispose()]);
      await expect(second.run({ x: y! })).rejects.toThrow("internal: a kept tensor was disposed");
      await second.dispose();
    });

    test("keeps results of some names, and gives the others", async () => {
      const session = await engine.open(affineModel());
      const x = float32([1, 3], Float32Array.of(1, 2, 3));
      const y = float32([1, 3], Float32Array.of(3, 5, 7));
      expect(await session.runKept!({ x }, ["z"])).toEqual({ y });
      const kept = (await session.runKept!({ x }, ["z", "y"])) as KeptTensors;
      expect("data" in kept["y"]!).toBe(false);
      expect(await session.run({ x: kept["y"]! })).toEqual({ y: float32([1, 3], Float32Array.of(7, 11, 15)) });
      await kept["y"]!.dispose();
      await session.dispose();
    });

    test("takes tensors that are given, and may keep their memory", async () => {
      await withSession(engine, affineModel(), async (session) => {
        for (const first of [1, 4]) {
          const { x } = given({ x: float32([1, 3], Float32Array.of(first, 2, 3)) });
          const { y } = await session.run({ x: x! });
          expect(y).toEqual(float32([1, 3], Float32Array.of(2 * first + 1, 5, 7)));
        }
      });
    });

    test("does not change the feeds of a run", async () => {
      const x = float32([1, 3], Float32Array.of(1, 2, 3));
      await withSession(engine, affineModel(), async (session) => {
        await session.run({ x });
        expect(await session.run({ x })).toEqual({ y: float32([1, 3], Float32Array.of(3, 5, 7)) });
      });
      expect(x).toEqual(float32([1, 3], Float32Array.of(1, 2, 3)));
    });

    test("has several sessions open at once", async () => {
      const [first, second] = [await engine.open(affineModel()), await engine.open(affineModel())];
      await first.dispose();
      expect((await second.run({ x: float32([1, 3]) }))["y"]).toEqual(float32([1, 3], Float32Array.of(1, 1, 1)));
      await second.dispose();
    });

    test.each([
      ["another shape", { x: float32([2, 4]) }],
      ["another rank", { x: float32([3]) }],
      ["another type", { x: tensor("int32", [1, 3], new Int32Array(3)) }],
      ["another name", { z: float32([1, 3]) }],
    ])("refuses a feed of %s in one line, and runs the next one", async (_, feeds) => {
      await withSession(engine, affineModel(), async (session) => {
        await expect(session.run(feeds)).rejects.toMatchObject({
          ...ENGINE_FAILURE,
          message: expect.stringMatching(/^Cannot run affine on cpu: [^\n]+$/),
        });
        expect((await session.run({ x: float32([1, 3]) }))["y"]?.shape).toEqual([1, 3]);
      });
    });

    test.each([
      ["bytes that are no ONNX model", new TextEncoder().encode("hello, world")],
      ["an empty model", new Uint8Array(0)],
      ["a truncated model", affineModel().bytes.slice(0, 60)],
    ])("refuses %s in one line", async (_, bytes) => {
      const opened = engine.open({
        name: "junk",
        network: "junk",
        bytes,
        inputs: [],
        optimization: "none",
        weightsRoot: "/",
      });
      await expect(opened).rejects.toMatchObject({
        ...ENGINE_FAILURE,
        message: expect.stringMatching(/^Cannot open junk on cpu: [^\n]+$/),
      });
    });

    test("refuses a weight whose file does not exist", async () => {
      const graph = new Graph("weights");
      graph.output(
        "y",
        graph
          .input("x", "f32", [2])
          .add(graph.external("w", { dtype: "f32", shape: [2], file: "/nowhere/w.bin", offset: 0, length: 8 })),
      );
      await expect(engine.open(await modelOf(graph, "none"))).rejects.toMatchObject(ENGINE_FAILURE);
    });

    test("a disposed session does not run, and may be disposed again", async () => {
      const session = await engine.open(affineModel());
      await session.dispose();
      await session.dispose();
      await expect(session.run({ x: float32([1, 3]) })).rejects.toThrow();
    });

    test("disposing the engine disposes its sessions, and may be repeated", async () => {
      const other = await openEngine();
      const session = await other.open(affineModel());
      await other.dispose();
      await other.dispose();
      await session.dispose();
      await expect(session.run({ x: float32([1, 3]) })).rejects.toThrow();
    });

    test("has the device that it was started with", () => {
      expect(engine.device).toEqual({ provider: "cpu", index: 0, threads: 1 });
    });
  });
}
