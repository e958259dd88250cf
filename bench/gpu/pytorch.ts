// Starts pytorch_gpu.py and reads its results.
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { DType } from "../../src/graph/types.js";
import { type ModelFiles, repositoryRoot } from "./files.js";
import type { PyTorchResult } from "./results.js";

/** Feeds and outputs of one run of qedit, for PyTorch to repeat. */
export interface Dump {
  /** Name of the network here, and of its function there. */
  readonly network: string;
  readonly kind: string;
  readonly references: number;
  readonly compute: DType;
  /** A .safetensors file with the feeds and the result. */
  readonly dump: string;
}

/** Runs for PyTorch to repeat. */
export interface PyTorchRequest {
  readonly device: "cuda" | "cpu";
  /** Time limit in seconds. */
  readonly seconds: number;
  readonly files: ModelFiles;
  readonly results: readonly Dump[];
  /** Rows of the square matrices whose product measures the machine's rate; 0 for none. */
  readonly matrix: number;
  readonly compile: boolean;
}

/** The Python to use, QEDIT_BENCH_PYTHON or python3, or why there is none. */
export function findPython(device: "cuda" | "cpu"): { command: string } | { missing: string } {
  const command = process.env["QEDIT_BENCH_PYTHON"] ?? "python3";
  const program = `import torch; assert ${device === "cuda" ? "torch.cuda.is_available()" : "True"}, "it sees no GPU"`;
  const { status, error, stderr } = spawnSync(command, ["-c", program], { encoding: "utf8" });
  if (status === 0) return { command };
  return { missing: `${command}: ${error?.message ?? stderr.trim().split("\n").at(-1)}` };
}

type Line = { readonly kind: string } & Record<string, unknown>;

/** Runs the script; calls `report` with all results so far after each new one. Throws if the script fails. */
export async function runPyTorch(
  command: string,
  request: PyTorchRequest,
  report: (add: (result: PyTorchResult) => PyTorchResult) => Promise<void>,
): Promise<void> {
  const child = spawn(command, [join(repositoryRoot(), "bench/pytorch_gpu.py"), JSON.stringify(request)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  // A script that hangs is killed; its results so far are kept.
  const limit = setTimeout(() => child.kill("SIGKILL"), 1.5 * request.seconds * 1000 + 30_000);
  for await (const line of createInterface(child.stdout)) {
    if (line.startsWith("{")) await report((result) => withLine(result, JSON.parse(line) as Line));
  }
  clearTimeout(limit);
  const code = await ended;
  if (code !== 0) throw new Error(`${command} bench/pytorch_gpu.py ended with ${code ?? "a signal"}`);
}

function withLine(result: PyTorchResult, { kind, ...facts }: Line): PyTorchResult {
  switch (kind) {
    case "versions":
      return { ...result, versions: facts as Record<string, string> };
    case "matrix":
      return { ...result, matrixFlops: facts["flops"] as number };
    case "note":
      return { ...result, notes: [...result.notes, facts["text"] as string] };
    case "error":
      return { ...result, errors: [...result.errors, facts as unknown as PyTorchResult["errors"][number]] };
    case "runs":
      return { ...result, runs: [...result.runs, facts as unknown as PyTorchResult["runs"][number]] };
    default:
      throw new Error(`internal: pytorch_gpu.py reported "${kind}"`);
  }
}
