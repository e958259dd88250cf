// The model of ONNX Runtime's order of nodes, buffers and arena, by hand and against what the runtime did.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { ArenaModel } from "../../src/engine/memory/arena-model.js";
import { BLOCKED_CONV } from "../../src/engine/memory/blocked-convolutions.js";
import { bufferPlan } from "../../src/engine/memory/buffer-plan.js";
import { residentRunBytes } from "../../src/engine/memory/host-run.js";
import { runOrder } from "../../src/engine/memory/run-graph.js";
import { runGraph } from "../../src/engine/memory/session-graph.js";
import { Graph } from "../../src/graph/graph.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { conv2d, gelu, gemm } from "../../src/graph/operators.js";
import { buildVaeDecoder } from "../../src/models/vaes.js";
import { fixture } from "../support/golden.js";

const MIB = 1024 ** 2;

describe("an arena", () => {
  test("grows by regions of twice the last one, and by what is asked for above the largest", () => {
    const arena = new ArenaModel();
    arena.allocate(MIB / 2);
    expect(arena.reservedBytes()).toBe(MIB);
    arena.allocate(MIB);
    expect(arena.reservedBytes()).toBe(3 * MIB);
    arena.allocate(9 * MIB);
    expect(arena.reservedBytes()).toBe(19 * MIB);
    arena.allocate(1500 * MIB);
    expect(arena.reservedBytes()).toBe(1519 * MIB);
  });

  test("has resident what was given out, once", () => {
    const arena = new ArenaModel();
    const first = arena.allocate(100_000);
    arena.free(first);
    arena.allocate(50_000);
    // 25 pages of 4096 bytes hold 100000.
    expect(arena.residentBytes()).toBe(25 * 4096);
  });

  test("gives the smallest free chunk that fits, and joins neighbours that are free", () => {
    const arena = new ArenaModel();
    const chunks = [300, 100, 200, 100, 100].map((kibibytes) => arena.allocate(kibibytes * 1024));
    arena.free(chunks[0]!);
    arena.free(chunks[2]!);
    expect(arena.allocate(150 * 1024).offset).toBe(chunks[2]!.offset);
    arena.free(chunks[1]!);
    expect(arena.allocate(400 * 1024).offset).toBe(0);
  });
});

// ONNX Runtime 1.29 was measured to allocate so: the sum of two products does not take the buffer of either.
test("a sum of two products has a buffer of its own, and what follows takes one of theirs", () => {
  const graph = new Graph("sum");
  const x = graph.input("x", "f32", ["t", 8]);
  const weight = graph.input("w", "f32", [16, 8]);
  graph.output("y", gelu(gemm(x, weight).add(gemm(x, weight)), "tanh"));
  const allocated = bufferPlan(runGraph(graph, { isFolded: false })).flatMap((step) => step.allocated);
  expect(allocated).toEqual(["Gemm_1", "Gemm", "Add", "y"]);
});

test("a convolution reads and writes channels in blocks, and adds what nobody else reads of it", () => {
  const graph = new Graph("convolutions");
  const x = graph.input("x", "f32", [1, 20, "h", "w"]);
  const kernel = graph.constant("f32", [20, 20, 1, 1], new Array<number>(400).fill(0.1));
  const options = { stride: 1, pads: [0, 0, 0, 0] } as const;
  const first = conv2d(x, { weight: kernel }, options);
  graph.output("y", conv2d(first, { weight: kernel }, options).add(first));
  const { nodes, values } = runGraph(graph, { isFolded: true });
  expect(nodes.map(({ operator }) => operator)).toEqual([
    "Identity",
    "ReorderInput",
    BLOCKED_CONV,
    BLOCKED_CONV,
    "ReorderOutput",
  ]);
  expect(values.get("x in blocks")!.shape).toEqual([1, 32, "h", "w"]);
});

/** Nodes as they ran, and the bytes of the arena's regions, without those that hold nothing yet. */
async function asItRan(graph: Graph, feeds: Readonly<Record<string, readonly number[]>>): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "qedit-order-"));
  try {
    const session = await ort.InferenceSession.create(encodeModel(graph), {
      graphOptimizationLevel: "disabled",
      enableProfiling: true,
      profileFilePrefix: join(folder, "profile"),
      extra: { session: { model_external_initializers_file_folder_path: "/" } },
    });
    const tensors = Object.entries(feeds).map(([name, shape]) => {
      const data = new Float32Array(shape.reduce((count, dim) => count * dim, 1));
      return [name, new ort.Tensor("float32", data, shape)] as const;
    });
    await session.run(Object.fromEntries(tensors));
    session.endProfiling();
    const [profile] = await readdir(folder);
    const events = JSON.parse(await readFile(join(folder, profile!), "utf8")) as {
      readonly cat: string;
      readonly name: string;
      readonly ts: number;
    }[];
    const ending = "_kernel_time";
    const ran = events.filter(({ cat, name }) => cat === "Node" && name.endsWith(ending));
    return ran.sort((a, b) => a.ts - b.ts).map(({ name }) => name.slice(0, -ending.length));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test("the nodes of a network are in the order in which ONNX Runtime runs them", async () => {
  const checkpoint = await readSafetensors(fixture("tiny/vae.safetensors"));
  const graph = new Graph("the VAE decoder");
  buildVaeDecoder(graph, Weights.of(graph, checkpoint), { compute: "f32", quantization: "round" });
  const planned = runOrder(runGraph(graph, { isFolded: false }).nodes).map(({ name }) => name);
  expect(planned.length).toBeGreaterThan(100);
  expect(await asItRan(graph, { latent: [1, 16, 2, 3] })).toEqual(planned);
});

test("runs after the second take no more", () => {
  const graph = new Graph("products");
  const x = graph.input("x", "f32", ["t", 512]);
  const weight = graph.constant("f32", [512, 512], new Array<number>(512 * 512).fill(0));
  graph.output("y", gelu(gemm(gelu(gemm(x, weight), "tanh"), weight), "tanh"));
  const after = (times: number) =>
    residentRunBytes(graph, [{ lengths: { t: 1000 }, times }], { isFolded: false, threads: 1 });
  expect(after(2)).toBe(after(50));
  expect(after(1)).toBe(2 * 4 * 512 * 1000);
});
