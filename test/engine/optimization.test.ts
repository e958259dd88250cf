import { totalmem } from "node:os";
import { expect, test } from "vitest";
import { affordableOptimization } from "../../src/engine/sessions/optimization.js";
import { Graph } from "../../src/graph/graph.js";

const CPU = { provider: "cpu", index: 0, threads: 0 } as const;

// One weight matrix of 8-bit floats with this many elements.
function graphOf(elements: number): Graph {
  const graph = new Graph("weights");
  graph.external("weight", {
    dtype: "f8_e4m3",
    shape: [elements / 1024, 1024],
    file: "/weights",
    offset: 0,
    length: elements,
  });
  return graph;
}

test("weights of small networks are converted to float32 once on the CPU", () => {
  expect(affordableOptimization(graphOf(1024 * 1024), CPU)).toBe("widened");
});

test("matrices that are float32 already are laid out", () => {
  const graph = graphOf(1024 * 1024);
  graph.external("other", { dtype: "f32", shape: [8, 1024], file: "/weights", offset: 1024 ** 2, length: 4 * 8192 });
  expect(affordableOptimization(graph, CPU)).toBe("full");
});

test("a bias in float32 says nothing of the matrices", () => {
  const graph = graphOf(1024 * 1024);
  graph.external("bias", { dtype: "f32", shape: [8], file: "/weights", offset: 1024 ** 2, length: 32 });
  expect(affordableOptimization(graph, CPU)).toBe("widened");
});

test("8-bit weights stay that would take over a quarter of the memory as float32", () => {
  const elements = Math.ceil(totalmem() / 4 / 4 / 1024 + 1) * 1024;
  expect(affordableOptimization(graphOf(elements), CPU)).toBe("none");
});

test("8-bit weights of the published transformer stay, however much memory there is", () => {
  expect(affordableOptimization(graphOf(20e9 - (20e9 % 1024)), CPU)).toBe("none");
});

test("on a GPU weights stay as they are stored", () => {
  expect(affordableOptimization(graphOf(1024), { provider: "cuda", index: 0, threads: 0 })).toBe("none");
});
