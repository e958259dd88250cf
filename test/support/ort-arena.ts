// What ONNX Runtime takes for one run of a graph on the CPU, in a process of its own: its arena as its log says it, and resident memory as Linux says it.
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
const resident = () => process.platform === "linux" ? Number(/RssAnon:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024 : NaN;
process.stderr.write("\\nthe run begins\\n");
const before = resident();
await session.run(Object.fromEntries(feeds));
process.stdout.write(String(resident() - before));
`;

/** glibc returns large blocks to the system when they are freed: else a run would reuse unseen what opening the session freed. */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: "131072" };

/** Bytes that one run takes. The arena frees none of them before its session closes. */
export interface TakenMemory {
  /** Of the arena's regions. */
  readonly reserved: number;
  /** Growth of the process's own resident memory, mapped weights left out; undefined where it cannot be read. */
  readonly resident: number | undefined;
}

/** Runs a graph once at these lengths on zeros; what opening the session takes is left out. `path` is where the model is written. */
export async function takenMemory(
  graph: Graph,
  lengths: Lengths,
  { optimization, path }: { optimization: Optimization; path: string },
): Promise<TakenMemory> {
  await writeFile(path, encodeModel(graph));
  const inputs = [...graph.inputs.values()].map(({ name, shape }) => [
    name,
    shape.map((dim) => lengthOf(dim, lengths)),
  ]);
  const args = ["--input-type=module", "-e", RUN, path, optimization, JSON.stringify(inputs)];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, {
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...ALLOCATOR },
  });
  const [, run] = stderr.split("the run begins") as [string, string | undefined];
  const extensions = [...(run ?? "").matchAll(/Extended allocation by (\d+) bytes/g)].map(([, bytes]) => Number(bytes));
  if (extensions.length === 0) throw new Error(`ONNX Runtime's log says nothing of its arena:\n${stderr.slice(-2000)}`);
  return {
    reserved: extensions.reduce((sum, bytes) => sum + bytes, 0),
    resident: stdout === "NaN" ? undefined : Number(stdout),
  };
}
