// Inputs by path, or `-` for stdin, which can be read only once.
import { buffer } from "node:stream/consumers";
import { type Artifact, decodeArtifact, readArtifact } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { type Picture, type PictureSource, readPictures } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { STREAM } from "./output.js";

/** Throws QEDIT_E_USAGE when stdin is wanted by more than one input, or is a terminal. */
export function checkInputs(inputs: readonly (string | undefined)[]): void {
  const wanted = inputs.filter((input) => input === STREAM).length;
  if (wanted > 1)
    throw new QeditError("QEDIT_E_USAGE", `Cannot read ${wanted} inputs from stdin: it is there once`, {
      hint: "Name files for all but one of them",
    });
  if (wanted === 1 && process.stdin.isTTY) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot read stdin: it is a terminal", {
      hint: "Pipe something in, as in `cat photo.jpg | qedit run - …`, or name a file",
    });
  }
}

/** The picture files of the arguments, decoded. */
export async function inputPictures(paths: readonly string[]): Promise<Picture[]> {
  return readPictures(await inputSources(paths));
}

/** The picture files of the arguments: paths, and the bytes of stdin. */
export function inputSources(paths: readonly string[]): Promise<PictureSource[]> {
  return Promise.all(paths.map(async (path) => (path === STREAM ? { name: "stdin", bytes: await stdin() } : path)));
}

/** An artifact of the wanted kind. */
export async function inputArtifact(path: string, kind: ArtifactKind): Promise<Artifact> {
  return path === STREAM ? decodeArtifact(await stdin(), { kind, name: "stdin" }) : readArtifact(path, kind);
}

/** A text that may be `-`; a last line break is not part of it. */
export async function inputText(text: string): Promise<string> {
  return text === STREAM ? (await stdin()).toString("utf8").replace(/\r?\n$/, "") : text;
}

async function stdin(): Promise<Buffer> {
  const bytes = await buffer(process.stdin);
  if (bytes.length > 0) return bytes;
  throw new QeditError("QEDIT_E_USAGE", "Cannot read stdin: nothing came", {
    hint: "The command before it in the pipeline may have failed",
  });
}
