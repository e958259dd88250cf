// What ONNX Runtime's own arena takes for one run of a graph on the CPU, as its log says it, in a process of its own.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import type { Optimization } from "../../src/engine/sessions/engine.js";
import type { Graph } from "../../src/graph/graph.js";
import { type Lengths, lengthOf } from "../../src/graph/lengths.js";
import { encodeModel } from "../../src/graph/onnx.js";

// The options are those of the engine, but for the log.
const RUN = `
import { readFileSync } from "node:fs";
const [path, optimization, inputs] = process.argv.slice(1);
const ort = await import("onnxruntime-node");
ort.env.logLevel = "info";
const isWritten = optimization === "none";
const session = await ort.InferenceSession.create(readFileSync(path), {
  graphOptimizationLevel: isWritten ? "disabled" : "all",
  logSeverityLevel: 1,
  enableMemPattern: false,
  intraOpNumThreads: 1,
  extra: {
    session: { model_external_initializers_file_folder_path: "/", use_device_allocator_for_initializers: "1" },
    ...(isWritten ? { optimization: { disable_specified_optimizers: "ConstantFolding" } } : {}),
  },
});
const feeds = JSON.parse(inputs).map(([name, dims]) => [name, new ort.Tensor("float32", new Float32Array(dims.reduce((a, b) => a * b, 1)), dims)]);
process.stderr.write("\\nthe run begins\\n");
await session.run(Object.fromEntries(feeds));
`;

/** Bytes that the arena took from the system for one run at these lengths, of zeros; what it took while the session opened is left out. `path` is where the model is written. */
export async function arenaBytes(
  graph: Graph,
  lengths: Lengths,
  { optimization, path }: { optimization: Optimization; path: string },
): Promise<number> {
  await writeFile(path, encodeModel(graph));
  const inputs = [...graph.inputs.values()].map(({ name, shape }) => [
    name,
    shape.map((dim) => lengthOf(dim, lengths)),
  ]);
  const { stderr } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "-e", RUN, path, optimization, JSON.stringify(inputs)],
    { maxBuffer: 2 ** 28 },
  );
  const [, run] = stderr.split("the run begins") as [string, string | undefined];
  const taken = [...(run ?? "").matchAll(/Extended allocation by (\d+) bytes/g)].map(([, bytes]) => Number(bytes));
  if (taken.length === 0) throw new Error(`ONNX Runtime's log says nothing of its arena:\n${stderr.slice(-2000)}`);
  return taken.reduce((sum, bytes) => sum + bytes, 0);
}
