// Where weights lie, as ONNX Runtime takes it: it refuses absolute locations, so the root of the file system is the folder of all weights,
// and each location is the rest of an absolute path. On Windows every drive has a root of its own.
import { QeditError } from "../std/errors.js";
import type { Graph } from "./graph.js";

/** `/`, `C:\`, or `\\server\share\`. */
const ROOT = /^(?:[A-Za-z]:[\\/]|\\\\[^\\/]+[\\/][^\\/]+[\\/]|\/)/;

/** The root of an absolute path of any platform, with its separator. */
export function rootOf(path: string): string {
  const root = ROOT.exec(path)?.[0];
  if (root === undefined) throw new Error(`internal: "${path}" is not absolute`);
  return root;
}

/** An absolute path without its root, with forward slashes, which every platform takes. */
export function locationOf(path: string): string {
  const rest = path.slice(rootOf(path).length);
  // A backslash is a letter like others in names of files on Unix.
  return path.startsWith("/") ? rest : rest.replaceAll("\\", "/");
}

/** The root that all weights of a graph share; `/` where there are none. Throws QEDIT_E_CHECKPOINT when they lie on several drives. */
export function weightsRoot({ name, externals }: Graph): string {
  const roots = new Set([...externals.values()].map(({ file }) => rootOf(file)));
  if (roots.size <= 1) return [...roots][0] ?? "/";
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot run ${name}: its weights lie on several drives, ${[...roots].join(" and ")}`,
    {
      hint: "Put the LoRA on the drive of the model",
    },
  );
}
