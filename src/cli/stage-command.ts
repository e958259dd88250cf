// What the commands of the first three stages have in common: an artifact is computed, written, and told.
import type { Artifact } from "../artifacts/artifact.js";
import type { PipelineContext } from "../edit/context.js";
import { type ComputeSettings, compute } from "./compute.js";
import { checkArtifactOutput, type Overwriting, STREAM, writeArtifactOutput } from "./files/output.js";
import type { Terminal } from "./render/terminal.js";

/** Where the artifact goes, and how it is computed. */
export interface ArtifactCall {
  readonly path: string;
  readonly settings: ComputeSettings & Overwriting;
  readonly terminal: Terminal;
}

/** Computes an artifact and writes it to its path, or to stdout. Nothing is computed when it could not be written. */
export async function computeArtifact(
  { path, settings, terminal }: ArtifactCall,
  make: (context: PipelineContext) => Promise<Artifact>,
): Promise<void> {
  const { force } = settings;
  await checkArtifactOutput(path, settings, terminal);
  const { value: artifact, device, seconds } = await compute(settings, terminal, make);
  await writeArtifactOutput(path, artifact, { force, terminal });
  if (path !== STREAM)
    terminal.result({ output: path, kind: artifact.kind, info: artifact.info, device, seconds }, [path]);
}
