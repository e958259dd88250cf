// Edits of a call for a server: where their pictures come from, their parameters, and where the results go.
import { basename } from "node:path";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { readBytes } from "../../image/io/read.js";
import { inputSources } from "../files/input.js";
import { pictureEncoding } from "../files/picture-output.js";
import { type Io, STREAM } from "../io.js";
import type { EditThere } from "./edit-there.js";
import { type SentFiles, type SentSettings, sentParameters } from "./sent-parameters.js";

/** An edit with its settings resolved. */
export interface PlannedThere {
  /** Paths of its pictures, or `-` for stdin. */
  readonly images: readonly string[];
  readonly settings: SentSettings & { readonly mask: string | undefined };
  readonly files: SentFiles;
  readonly seed: bigint;
  readonly path: string;
  readonly result: EditThere["result"];
}

/** The edit to send; its pictures are read when it is. */
export function editOf(
  { images, settings, files, seed, path, result }: PlannedThere,
  io: Pick<Io, "stdin">,
): EditThere {
  const { mask } = settings;
  return {
    parameters: sentParameters(settings, files, { seed, format: pictureEncoding(path, result).format }),
    inputs: async () => ({
      images: await namedBytes(images, io),
      mask: mask === undefined ? undefined : (await namedBytes([mask], io))[0],
    }),
    own: {
      pictures: images.map((name) => ({ name: name === STREAM ? "stdin" : name })),
      mask: mask === undefined ? undefined : { name: mask },
      files: files.files,
    },
    path,
    result,
  };
}

// With the names that recipes have.
async function namedBytes(paths: readonly string[], io: Pick<Io, "stdin">): Promise<NamedBytes[]> {
  const sources = await inputSources(paths, io);
  return Promise.all(
    sources.map(async (source) =>
      typeof source === "string" ? { name: basename(source), bytes: await readBytes(source, source) } : source,
    ),
  );
}
