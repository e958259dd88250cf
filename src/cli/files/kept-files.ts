// --keep: the tensor files between the stages of an edit, in a folder.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Artifact, encodeArtifact, readableRecord, recordPath } from "../../artifacts/artifact.js";
import { type ArtifactKind, KINDS } from "../../artifacts/kinds.js";
import { writeFileAtomically } from "../../std/files.js";
import type { Terminal } from "../render/terminal.js";
import { checkArtifactOutput, type Overwriting } from "./output.js";

/** The path of a kept file. */
export function keptPath(folder: string, kind: ArtifactKind): string {
  return join(folder, `${kind}.safetensors`);
}

/** Throws if the files of an edit could not be kept later: QEDIT_E_EXISTS, QEDIT_E_IO. Without --keep there is no folder. */
export async function checkKept(
  folder: string | undefined,
  overwriting: Overwriting,
  terminal: Pick<Terminal, "settings" | "io">,
): Promise<void> {
  if (folder === undefined) return;
  for (const kind of Object.keys(KINDS) as ArtifactKind[])
    await checkArtifactOutput(keptPath(folder, kind), overwriting, terminal);
}

/** Writes an artifact and its record; files that hold just that are left. Throws QEDIT_E_EXISTS for others unless they may be replaced, QEDIT_E_IO. */
export async function writeKept(folder: string, artifact: Artifact, { force }: Overwriting): Promise<void> {
  const path = keptPath(folder, artifact.kind);
  const files = [
    [path, encodeArtifact(artifact)],
    [recordPath(path), Buffer.from(readableRecord(artifact))],
  ] as const;
  for (const [at, bytes] of files)
    if (force || !(await holds(at, bytes))) await writeFileAtomically(at, bytes, { overwrite: force });
}

async function holds(path: string, bytes: Uint8Array): Promise<boolean> {
  const found = await readFile(path).catch(() => undefined);
  return found?.equals(bytes) ?? false;
}
