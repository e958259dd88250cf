// Writes results to a file or to stdout, and checks before computing that this will be possible.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Artifact, encodeArtifact, recordPath, writeArtifact } from "../../artifacts/artifact.js";
import { QeditError } from "../../std/errors.js";
import { existsAlready, writeFileAtomically } from "../../std/files.js";
import { checkFolder } from "../../std/writable-folder.js";
import { STREAM } from "../io.js";
import type { Terminal } from "../render/terminal.js";
import { isSameFile } from "./shared-paths.js";

/** Whether the name of an output says that it is a folder, which may not exist yet. */
export function isFolderName(output: string): boolean {
  return /[/\\]$/.test(output);
}

/** The path of an output: as it is named, `name` in the folder that it names, or `name` when there is no output. */
export function outputPath(output: string | undefined, name: string): string {
  return output === undefined ? name : isFolderName(output) ? join(output, name) : output;
}

/** Whether existing files may be replaced. */
export interface Overwriting {
  readonly force: boolean;
}

/** Throws if a result could not be written later: QEDIT_E_EXISTS, QEDIT_E_IO, or QEDIT_E_USAGE for bytes on a terminal and for the log of --events. */
export async function checkOutput(
  path: string,
  { force }: Overwriting,
  { settings, io }: Pick<Terminal, "settings" | "io">,
): Promise<void> {
  if (path !== STREAM) {
    if (settings.events !== undefined && (await isSameFile(path, settings.events)))
      throw new QeditError("QEDIT_E_USAGE", `Cannot write ${path}: --events goes there`, {
        hint: "Choose another name for one of them",
      });
    return refuseUnwritable(path, force);
  }
  if (settings.json)
    throw new QeditError("QEDIT_E_USAGE", "Cannot print JSON and the result on stdout at once", {
      hint: "Leave out --json, or name a file: -o FILE",
    });
  if (io.stdout.isTTY)
    throw new QeditError("QEDIT_E_USAGE", "Cannot write bytes to a terminal", {
      hint: "Redirect them, as in `… > out.png`, or name a file: -o FILE",
    });
}

/** checkOutput for an artifact and its record file. */
export async function checkArtifactOutput(
  path: string,
  overwriting: Overwriting,
  terminal: Pick<Terminal, "settings" | "io">,
): Promise<void> {
  await checkOutput(path, overwriting, terminal);
  if (path !== STREAM) await checkOutput(recordPath(path), overwriting, terminal);
}

/** Writes the bytes of a result to its file or to stdout. Throws QEDIT_E_EXISTS, QEDIT_E_IO. */
export async function writeOutput(
  path: string,
  bytes: Uint8Array,
  { force, terminal }: Overwriting & { terminal: Terminal },
): Promise<void> {
  if (path === STREAM) await terminal.write(bytes);
  else await writeFileAtomically(path, bytes, { overwrite: force });
}

/** Writes an artifact and its record file, or only the artifact to stdout. */
export async function writeArtifactOutput(
  path: string,
  artifact: Artifact,
  { force, terminal }: Overwriting & { terminal: Terminal },
): Promise<void> {
  if (path === STREAM) await terminal.write(encodeArtifact(artifact));
  else await writeArtifact(path, artifact, { overwrite: force });
}

async function refuseUnwritable(path: string, force: boolean): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory())
    throw new QeditError("QEDIT_E_IO", `Cannot write ${path}: it is a folder`, {
      hint: `Name a file: -o ${path}/out.png, or a slash at its end for a name of its own: -o ${path}/`,
    });
  // Devices and pipes can be written without --force.
  if (found && !found.isFile()) return;
  if (found && !force) throw existsAlready(path);
  await checkFolder(path);
}
