// Reads inputs by path, or from stdin (`-`), which can be read only once.
import { buffer } from "node:stream/consumers";
import { type Artifact, decodeArtifact, readArtifact } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import type { EditSettings } from "../../edit/parameters/table.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { type Picture, type PictureSource, readPictures } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { type Io, STREAM } from "../io.js";
import { promptOf } from "./prompt-file.js";

/** Throws QEDIT_E_USAGE if more than one input is stdin, or if stdin is a terminal. */
export function checkInputs(inputs: readonly (string | undefined)[], { stdin }: Pick<Io, "stdin">): void {
  const wanted = inputs.filter((input) => input === STREAM).length;
  if (wanted > 1)
    throw new QeditError("QEDIT_E_USAGE", `Cannot read ${wanted} inputs from stdin: it can be read only once`, {
      hint: "Name files for all but one of them",
    });
  if (wanted === 1 && stdin.isTTY) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot read stdin: it is a terminal", {
      hint: "Pipe something in, as in `cat photo.jpg | qedit run - …`, or name a file",
    });
  }
}

/** Throws QEDIT_E_USAGE if a path or a text of one job among several is stdin or stdout. */
export function refuseJobStreams(named: readonly (string | undefined)[]): void {
  if (named.includes(STREAM))
    throw new QeditError("QEDIT_E_USAGE", "A job can neither read stdin nor write to stdout", { hint: "Name a file" });
}

/** Throws QEDIT_E_USAGE if a picture or a mask of several edits is stdin. */
export function refuseSharedStream(paths: readonly (string | undefined)[]): void {
  if (paths.includes(STREAM))
    throw new QeditError("QEDIT_E_USAGE", "Cannot read pictures of several edits from stdin", {
      hint: "Name a file, or edit one picture with `qedit run`",
    });
}

/** Reads and decodes the pictures of the arguments. */
export async function inputPictures(paths: readonly string[], io: Pick<Io, "stdin">): Promise<Picture[]> {
  return readPictures(await inputSources(paths, io));
}

/** The picture files of the arguments: paths, and the bytes of stdin. */
export function inputSources(paths: readonly string[], io: Pick<Io, "stdin">): Promise<PictureSource[]> {
  return Promise.all(paths.map(async (path) => (path === STREAM ? { name: "stdin", bytes: await readAll(io) } : path)));
}

/** An artifact of the wanted kind. */
export async function inputArtifact(path: string, kind: ArtifactKind, io: Pick<Io, "stdin">): Promise<Artifact> {
  return path === STREAM ? decodeArtifact(await readAll(io), { kind, name: "stdin" }) : readArtifact(path, kind);
}

/** A text, or stdin for `-`, without its last line break. */
export async function inputText(text: string, io: Pick<Io, "stdin">): Promise<string> {
  return text === STREAM ? (await readAll(io)).toString("utf8").replace(/\r?\n$/, "") : text;
}

/** The text of a prompt, which may come from stdin. Throws QEDIT_E_USAGE if it says nothing, unless that is allowed. */
export async function inputPrompt(
  { prompt, allowEmptyPrompt }: Pick<EditSettings, "prompt" | "allowEmptyPrompt">,
  io: Pick<Io, "stdin">,
): Promise<string> {
  const text = prompt === STREAM ? await promptOf(chunksOf(io), "stdin") : prompt;
  refuseEmptyPrompt({ prompt: text, allowEmptyPrompt });
  return text;
}

async function* chunksOf({ stdin }: Pick<Io, "stdin">): AsyncGenerator<Uint8Array | string> {
  let isEmpty = true;
  for await (const chunk of stdin) {
    isEmpty = false;
    yield chunk as Uint8Array | string;
  }
  if (isEmpty) throw nothingCame();
}

async function readAll({ stdin }: Pick<Io, "stdin">): Promise<Buffer> {
  const bytes = await buffer(stdin);
  if (bytes.length > 0) return bytes;
  throw nothingCame();
}

function nothingCame(): QeditError {
  return new QeditError("QEDIT_E_USAGE", "Cannot read stdin: nothing came", {
    hint: "The command before it in the pipeline may have failed",
  });
}
