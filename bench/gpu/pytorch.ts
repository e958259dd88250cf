// PyTorch beside qedit: starts pytorch_gpu.py and takes its results as they come.
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { repositoryRoot } from "./files.js";
import type { GpuRuns, PyTorchResult } from "./results.js";

/** What PyTorch is to repeat. */
export interface PyTorchRequest {
  readonly device: "cuda" | "cpu";
  readonly dtype: "bfloat16" | "float32";
  /** Most seconds that this may take. */
  readonly seconds: number;
  readonly checkpoint: string;
  /** Files with what qedit was fed and gave, by references. */
  readonly dumps: Readonly<Record<number, string>>;
  readonly pixels: number;
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

/** Runs the script; `tell` is called with all results so far after each. Throws when it fails. */
export async function runPyTorch(command: string, request: PyTorchRequest, tell: (result: PyTorchResult) => Promise<void>): Promise<void> {
  const child = spawn(command, [join(repositoryRoot(), "bench/pytorch_gpu.py"), JSON.stringify(request)], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  // A script that hangs is ended; what it has told stays.
  const limit = setTimeout(() => child.kill("SIGKILL"), 1.5 * request.seconds * 1000 + 30_000);
  let result: PyTorchResult = { versions: {}, transformer: [], networks: {}, notes: [] };
  for await (const line of createInterface(child.stdout)) {
    if (!line.startsWith("{")) continue;
    result = withLine(result, JSON.parse(line) as Line);
    await tell(result);
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
    case "transformer":
      return { ...result, transformer: [...result.transformer, facts as unknown as PyTorchResult["transformer"][number]] };
    case "transformer-load":
      return { ...result, notes: [...result.notes, `the transformer's weights took ${(facts["seconds"] as number).toFixed(1)} s to load`] };
    default:
      return { ...result, networks: { ...result.networks, [kind]: facts as unknown as GpuRuns } };
  }
}
