// One edit of run, each and batch: submits it, writes its picture, and keeps its samples if the picture is broken.
import { basename, dirname, extname, join } from "node:path";
import { type Artifact, writeArtifact } from "../../artifacts/artifact.js";
import type { FinishedPicture } from "../../edit/finish/finish.js";
import type { QualitySettings } from "../../edit/finish/picture-encoding.js";
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import type { ResolvedEdit } from "../../edit/resolve/resolve-edit.js";
import type { SubmittedEdit } from "../../edit/service/open-edit.js";
import type { Image } from "../../image/image.js";
import { encodeDecoded, encodedInfo, flattening } from "../../stages/decode.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { keptPath, writeKept } from "../files/kept-files.js";
import { keepFilePaths } from "../files/known-files.js";
import { writeOutput } from "../files/output.js";
import { numberedPath, pictureEncoding } from "../files/picture-output.js";
import { STREAM } from "../io.js";
import type { Terminal } from "../render/terminal.js";

/** How the result of an edit is written. */
export interface ResultSettings extends QualitySettings {
  readonly force: boolean;
  readonly format: string | undefined;
  /** Folder for the artifacts between the stages; undefined: they are not written. */
  readonly keep: string | undefined;
}

/** A resolved edit, its input pictures, and its output file. */
export interface PlannedEdit {
  readonly resolved: ResolvedEdit;
  readonly pictures: () => Promise<readonly Picture[]>;
  readonly mask: () => Promise<Picture | undefined>;
  readonly isDrawn: boolean;
  readonly path: string;
  readonly result: ResultSettings;
}

/** Callbacks around writing the picture. */
export interface WriteObserver {
  readonly terminal: Terminal;
  /** Called with the SHA-256 of the file before it is written. */
  readonly writing?: (hash: string) => Promise<void>;
  /** Called after each step with a small picture of what is being made. */
  readonly previewed?: ((image: Image) => void) | undefined;
  /** Called after it was written. */
  readonly written?: (picture: FinishedPicture) => Promise<void>;
}

/** The edit, with a seed drawn for `--seed random`. */
export function withSeed(edit: Omit<PlannedEdit, "isDrawn">, emit: Terminal["emit"]): PlannedEdit {
  const { settings, isDrawn } = drawSeed(edit.resolved.settings, emit);
  return { ...edit, resolved: { ...edit.resolved, settings }, isDrawn };
}

/** The edit to submit to the service; its callbacks write the picture and artifacts. */
export function submitted(planned: PlannedEdit, observer: WriteObserver): SubmittedEdit {
  const { resolved, pictures, mask, isDrawn, path, result } = planned;
  const { keep } = result;
  return {
    resolved,
    pictures,
    mask,
    isDrawn,
    async onArtifact(artifact) {
      if (keep !== undefined) await writeKept(keep, artifact, result);
    },
    ...(observer.previewed && { onPreview: observer.previewed }),
    onBroken: (samples, error) => keepSamples(samples, error, planned),
    async onPicture(picture) {
      const encoding = pictureEncoding(path, result);
      const bytes = await encodeDecoded(picture, encoding);
      const flattened = flattening(picture, encoding);
      if (flattened !== undefined) observer.terminal.emit({ kind: "note", text: flattened });
      await observer.writing?.(await fileHash(bytes));
      await writeOutput(path, bytes, { force: result.force, terminal: observer.terminal });
      await keepFilePaths(picture.info, { pictures: await pictures(), mask: await mask(), files: resolved.files });
      await observer.written?.({ ...picture, info: encodedInfo(picture.info, encoding) });
    },
  };
}

// If the picture is broken, writes the samples, so that sampling is not repeated, and adds a hint how to decode them again.
async function keepSamples(
  samples: Artifact,
  error: QeditError,
  { path, resolved: { settings, files }, result }: PlannedEdit,
): Promise<QeditError> {
  const file = result.keep === undefined ? await writeBeside(path, samples) : keptPath(result.keep, "samples");
  const { keepSize, match } = settings;
  const words = [
    ...["qedit", "decode", file],
    ...(files.vae === undefined ? [] : ["--vae", files.vae]),
    ...(match === undefined ? [] : ["--match", match]),
    ...(keepSize ? ["--keep-size"] : []),
    ...["-o", path],
    ...(result.format === undefined ? [] : ["--format", result.format]),
  ];
  return new QeditError(error.code, error.marked.message, {
    hint: `The samples are kept, decode them again, for example with another VAE: ${words.map(quoted).join(" ")}`,
    cause: error,
  });
}

async function writeBeside(path: string, samples: Artifact): Promise<string> {
  const stem = path === STREAM ? "stdout" : join(dirname(path), basename(path, extname(path)));
  for (let index = 1; ; index++) {
    const file = index === 1 ? `${stem}-samples.safetensors` : numberedPath(`${stem}-samples.safetensors`, index);
    try {
      await writeArtifact(file, samples, { overwrite: false });
      return file;
    } catch (error) {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_EXISTS")) throw error;
    }
  }
}

// Quotes a word for POSIX shells.
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
