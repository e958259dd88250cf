// One product of full width with packed weights on the CPU, in the two forms that each number of bits could take: processor seconds on one thread.
// npx tsx bench/packed-products.ts
import { randomFillSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { directEngine } from "../src/engine/sessions/direct.js";
import { modelOf } from "../src/engine/sessions/engine.js";
import { Graph } from "../src/graph/graph.js";
import { gemm } from "../src/graph/operators.js";
import { dequantized, matMulNBits } from "../src/graph/quantized.js";
import type { Value } from "../src/graph/value.js";
import { float32 } from "../src/std/tensor.js";
import { median } from "./report.js";

const [ROWS, COLUMNS, TOKENS, BLOCK, RUNS] = [12288, 3072, 1024, 32, 5];

const folder = await mkdtemp(join(tmpdir(), "qedit-products-"));
try {
  const [codesFile, scalesFile] = [join(folder, "codes"), join(folder, "scales")];
  await writeFile(codesFile, randomFillSync(Buffer.alloc(ROWS * COLUMNS)));
  await writeFile(scalesFile, new Uint8Array(new Float32Array((ROWS * COLUMNS) / BLOCK).fill(1e-3).buffer));
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
  const x = float32([TOKENS, COLUMNS], new Float32Array(TOKENS * COLUMNS).fill(0.1));
  const scales = (graph: Graph) => {
    const shape = [ROWS, COLUMNS / BLOCK];
    return graph.external("scales", {
      dtype: "f32",
      shape,
      file: scalesFile,
      offset: 0,
      length: shape[0]! * shape[1]! * 4,
    });
  };
  const codes = (graph: Graph, bits: 4 | 8, shape: readonly number[]) =>
    graph.external("codes", { dtype: "u8", shape, file: codesFile, offset: 0, length: (ROWS * COLUMNS * bits) / 8 });
  const blocks = (bits: 4 | 8) => [ROWS, COLUMNS / BLOCK, (BLOCK * bits) / 8];
  const forms: Readonly<Record<string, (graph: Graph, x: Value) => Value>> = {
    "8 bits: DequantizeLinear, Gemm": (graph, x) =>
      gemm(x, dequantized({ codes: codes(graph, 8, [ROWS, COLUMNS]), scales: scales(graph), block: BLOCK })),
    "8 bits: MatMulNBits": (graph, x) =>
      matMulNBits(x, { codes: codes(graph, 8, blocks(8)), scales: scales(graph), bits: 8, block: BLOCK }),
    "4 bits: MatMulNBits, laid out when opened": (graph, x) =>
      matMulNBits(x, { codes: codes(graph, 4, blocks(4)), scales: scales(graph), bits: 4, block: BLOCK }),
    "4 bits: MatMulNBits of reshaped codes": (graph, x) => {
      const reshaped = codes(graph, 4, [ROWS, COLUMNS / 2]).reshape(blocks(4));
      return matMulNBits(x, { codes: reshaped, scales: scales(graph), bits: 4, block: BLOCK });
    },
  };
  const sessions = [];
  for (const [name, build] of Object.entries(forms)) {
    const graph = new Graph(name);
    graph.output("y", build(graph, graph.input("x", "f32", ["tokens", COLUMNS])));
    sessions.push({ name, session: await engine.open(await modelOf(graph, "none")), seconds: [] as number[] });
  }
  for (let run = 0; run < RUNS; run += 1) {
    for (const { session, seconds } of sessions) {
      const before = process.cpuUsage();
      await session.run({ x });
      const { user, system } = process.cpuUsage(before);
      seconds.push((user + system) / 1e6);
    }
  }
  console.table(sessions.map(({ name, seconds }) => ({ form: name, "CPU s": median(seconds).toFixed(3) })));
  await engine.dispose();
} finally {
  await rm(folder, { recursive: true });
}
