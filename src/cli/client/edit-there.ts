// One edit that a server makes: follows its job, fetches the picture, and writes it here. Stopped, it cancels the job there.
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import { MIME_TYPES } from "../../edit/finish/picture-encoding.js";
import type { OwnFiles } from "../../edit/recipe/own-files.js";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import type { ServiceEvent } from "../../edit/service/job.js";
import type { Image } from "../../image/image.js";
import { readImage } from "../../image/io/read.js";
import type { Emit } from "../../std/events.js";
import { keepFilePaths } from "../files/known-files.js";
import { writeOutput } from "../files/output.js";
import { pictureEncoding } from "../files/picture-output.js";
import type { ResultSettings } from "../jobs/edit-job.js";
import type { Terminal } from "../render/terminal.js";
import { nonsense, ServerUnclear } from "./http-call.js";
import type { JobAnswer, ResultAnswer } from "./server-answers.js";
import type { ServerClient } from "./server-client.js";

/** An edit for a server, and where its picture goes here. */
export interface EditThere {
  /** All parameters, with the seed. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inputs: () => Promise<{ readonly images: readonly NamedBytes[]; readonly mask: NamedBytes | undefined }>;
  /** Paths of what it reads, for the history of files. */
  readonly own: OwnFiles;
  readonly path: string;
  readonly result: Omit<ResultSettings, "keep">;
  /** Called with the SHA-256 of the file before it is written. */
  readonly writing?: ((hash: string) => Promise<void>) | undefined;
  /** Called after it was written. */
  readonly written?: ((picture: PictureThere) => Promise<void>) | undefined;
}

/** A picture that a server made. */
export interface PictureThere {
  readonly info: ArtifactInfo;
  readonly result: ResultAnswer;
  readonly image: () => Promise<Image>;
}

/** With what edits are sent and followed. */
export interface ThereOptions {
  readonly client: ServerClient;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
  readonly previewed?: ((image: Image) => void) | undefined;
}

/** Sends an edit. Throws what the server refuses. */
export async function sendEdit(edit: EditThere, { client, signal, previewed }: ThereOptions): Promise<JobAnswer> {
  const { images, mask } = await edit.inputs();
  return client.submit({ images, mask, parameters: edit.parameters, hasPreviews: previewed !== undefined }, signal);
}

/** Follows a job to its end and writes its picture. Throws its error; when the signal is aborted its reason, after the job was cancelled. */
export async function finishEdit(
  edit: EditThere,
  { id }: JobAnswer,
  options: ThereOptions & { readonly emit: Emit; readonly onState?: (job: JobAnswer) => void },
): Promise<PictureThere> {
  const { client, signal, previewed, emit, onState } = options;
  const previews = previewed && previewing(previewed, emit);
  try {
    // As the edit service has it.
    const onProgress: Emit = (event) => {
      const own: ServiceEvent = { ...event, id };
      emit(own);
    };
    const observer = { onProgress, onPreview: previews?.show, ...(onState && { onState }) };
    const result = await client.follow(id, observer, signal);
    const encoding = pictureEncoding(edit.path, edit.result);
    if (result.type !== MIME_TYPES[encoding.format])
      throw nonsense(client.address, `a picture of the type ${result.type}, not ${MIME_TYPES[encoding.format]}`);
    const bytes = await client.content(id, result, signal);
    await previews?.done();
    return await written(edit, bytes, { result, terminal: options.terminal });
  } catch (error) {
    // It may be lost by now; what matters is the error.
    if (signal.aborted || error instanceof ServerUnclear) await client.cancel(id).catch(() => {});
    throw error;
  }
}

async function written(
  edit: EditThere,
  bytes: Uint8Array,
  { result, terminal }: { result: ResultAnswer; terminal: Terminal },
): Promise<PictureThere> {
  const { recipe: _r, qedit: _q, ...info } = result.recipe;
  await edit.writing?.(result.sha256);
  await writeOutput(edit.path, bytes, { force: edit.result.force, terminal });
  await keepFilePaths(info, edit.own);
  const picture = { info, result, image: () => readImage(bytes, edit.path) };
  await edit.written?.(picture);
  return picture;
}

// Decodes previews in their order.
function previewing(previewed: (image: Image) => void, emit: Emit) {
  let last = Promise.resolve();
  return {
    show(bytes: Uint8Array) {
      last = last
        .then(async () => previewed(await readImage(bytes, "the preview")))
        .catch((error: Error) => emit({ kind: "warning", text: `no preview: ${error.message}` }));
    },
    done: () => last,
  };
}
