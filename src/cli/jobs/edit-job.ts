// A whole edit as run, each and batch make it: options, settings resolved, the picture written, and what is left when it came out broken.
import { basename, dirname, extname, join } from "node:path";
import { type Artifact, writeArtifact } from "../../artifacts/artifact.js";
import { type EditSettings, type EditSource, editOptions } from "../../edit/edit.js";
import type { FinishedPicture } from "../../edit/finish.js";
import { encodeDecoded } from "../../stages/decode.js";
import { type OptionTable, type SettingsOf, text } from "../../stages/option.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { withModelFiles } from "../compute.js";
import { STREAM, writeOutput } from "../files/output.js";
import { format, numberedPath, pictureFormat } from "../files/picture-output.js";
import type { Terminal } from "../render/terminal.js";
import { presetOptions, resolveSettings, type Unresolved } from "../settings/edit-settings.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/options.js";
import { drawSeed } from "../settings/seeds.js";

const keep = text({
  flags: "--keep <folder>",
  summary: "keep the tensor files between the stages there",
  group: "Output",
  isPerCall: true,
});

/** The options of one edit. */
export const runOptions = {
  ...editOptions,
  ...presetOptions,
  ...writeOptions,
  format,
  keep,
  ...cacheOptions,
  ...computeOptions,
};

/** The settings of one edit. */
export type RunSettings = SettingsOf<typeof runOptions>;

/** An edit with every setting known, the pictures it reads, and the file it makes. */
export interface PlannedEdit {
  readonly pictures: () => Promise<readonly Picture[]>;
  readonly settings: RunSettings;
  readonly isDrawn: boolean;
  readonly path: string;
}

/** What is done beside writing the picture. */
export interface Witness {
  readonly terminal: Terminal;
  /** Called with the SHA-256 of the file before it is there. */
  readonly writing?: (hash: string) => Promise<void>;
  /** Called when it is there. */
  readonly written?: (picture: FinishedPicture) => Promise<void>;
}

/** Settings with presets, the model's numbers and its files in them. Throws QEDIT_E_USAGE, QEDIT_E_MODEL_MISSING. */
export async function resolveEdit<Table extends OptionTable>(unresolved: Unresolved<Table>): Promise<RunSettings> {
  const resolved = (await resolveSettings(unresolved)) as unknown as RunSettings;
  const found = await withModelFiles<typeof editOptions>(
    resolved,
    ["vae", "textEncoder", "transformer"],
    unresolved.emit,
  );
  return { ...resolved, ...found };
}

/** The edit with its seed drawn if it was to be. */
export function withSeed(edit: Omit<PlannedEdit, "isDrawn">, emit: Terminal["emit"]): PlannedEdit {
  return { ...edit, ...drawSeed(edit.settings, emit) };
}

/** The edit for the pipeline. */
export function editSource({ pictures, settings, isDrawn, path }: PlannedEdit): EditSource {
  const salvage = (samples: Artifact, error: QeditError) => keepSamples(samples, { error, path, settings });
  return { pictures, settings, keep: settings.keep, isDrawn, salvage };
}

/** Writes the picture of an edit. */
export async function finishEdit(
  picture: FinishedPicture,
  { path, settings }: PlannedEdit,
  { terminal, writing, written }: Witness,
): Promise<void> {
  const bytes = await encodeDecoded(picture, pictureFormat(path, settings.format));
  await writing?.(await fileHash(bytes));
  await writeOutput(path, bytes, { force: settings.force, terminal });
  await written?.(picture);
}

interface Broken {
  readonly error: QeditError;
  readonly path: string;
  readonly settings: EditSettings & Pick<RunSettings, "keep" | "format">;
}

// Minutes of sampling are not lost with a picture that cannot be decoded: the samples stay, and the hint is how to decode them again.
async function keepSamples(samples: Artifact, { error, path, settings }: Broken): Promise<QeditError> {
  const file =
    settings.keep === undefined ? await writeBeside(path, samples) : join(settings.keep, "samples.safetensors");
  const { vae, keepSize, match } = settings;
  const words = [
    "qedit",
    "decode",
    file,
    ...(vae === undefined ? [] : ["--vae", vae]),
    ...(match === undefined ? [] : ["--match", match]),
    ...(keepSize ? ["--keep-size"] : []),
    "-o",
    path,
  ];
  const formatWords = settings.format === undefined ? [] : ["--format", settings.format];
  return new QeditError(error.code, error.message, {
    hint: `The samples are kept, decode them again, for example with another VAE: ${[...words, ...formatWords].map(quoted).join(" ")}`,
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

// As a shell takes it.
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
