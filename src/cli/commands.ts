// The subcommands as data: what each takes, which model files it needs, and what it does with them.
import { basename, extname, join, dirname } from "node:path";
import { readArtifact, writeArtifact, type Artifact, type ArtifactInfo } from "../artifacts/artifact.js";
import type { FileRole } from "../catalog/models.js";
import { QeditError } from "../errors.js";
import { writeFileAtomically } from "../files.js";
import { formatOf, type PictureFormat } from "../image/write.js";
import { edit, editOptions, timed, type EditContext } from "../pipeline/edit.js";
import { decode, encodeDecoded, type DecodedPicture } from "../stages/decode.js";
import { encodeImage } from "../stages/encode-image.js";
import { encodePrompt } from "../stages/encode-prompt.js";
import { choice, mandatoryText, text, type OptionTable, type SettingsOf } from "../stages/option.js";
import { readPictures } from "../stages/pictures.js";
import { sample } from "../stages/sample.js";

/** What a command made: where it lies, what it is, and how it was made. */
export interface Outcome {
  readonly output: string;
  readonly kind: string;
  readonly info: ArtifactInfo;
}

/** A subcommand; `perform` gets the positional arguments and the settings, defaults filled in. */
export interface CommandSpec<Table extends OptionTable = OptionTable> {
  readonly name: string;
  readonly summary: string;
  readonly examples: readonly string[];
  /** Positional argument as commander reads it: `<image...>`. */
  readonly positional?: readonly [name: string, summary: string];
  readonly options: Table;
  readonly roles: readonly FileRole[];
  /** Where the result goes; throws QEDIT_E_USAGE for a name that cannot hold it. */
  readonly output: (args: readonly string[], settings: SettingsOf<Table>) => string;
  readonly perform: (call: Call<Table>, context: EditContext) => Promise<Outcome>;
}

/** One call of a command. */
export interface Call<Table extends OptionTable> {
  readonly args: readonly string[];
  readonly settings: SettingsOf<Table>;
  readonly output: string;
}

function defineCommand<Table extends OptionTable>(spec: CommandSpec<Table>): CommandSpec {
  return spec as unknown as CommandSpec;
}

const output = text({ flags: "-o, --output <file>", summary: "where the result goes", group: "Output" });
const FORMATS: Readonly<Record<string, PictureFormat>> = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" };
const format = choice({ flags: "--format <name>", summary: "picture format, when the name of the output does not say it", group: "Output" }, Object.keys(FORMATS), undefined);
const keep = text({ flags: "--keep <folder>", summary: "keep the tensor files between the stages there", group: "Output" });

const runOptions = { ...editOptions, output, format, keep };
const run = defineCommand({
  name: "run",
  summary: "Edit pictures: all four stages in one go",
  examples: ['qedit run photo.jpg -p "make it black and white"', 'qedit run person.jpg hat.png -p "put the hat of picture 2 on the person" -o out.png'],
  positional: ["<image...>", "pictures, in the order the prompt counts them"],
  options: runOptions,
  roles: ["vae", "textEncoder", "transformer"],
  output: ([first], settings) => pictureOutput(settings, () => join(dirname(first!), `${stem(first!)}-edit`)),
  async perform({ args, settings, output: path }, context) {
    const pictures = await readPictures(args);
    return writePicture(path, settings, await edit({ pictures, settings, keep: settings.keep }, context));
  },
});

const encodeImageOptions = { ...encodeImage.options, output };
const encodeImageCommand = defineCommand({
  name: encodeImage.name,
  summary: encodeImage.summary,
  examples: ["qedit encode-image photo.jpg -o latents.safetensors"],
  positional: ["<image...>", "pictures, in the order the prompt counts them"],
  options: encodeImageOptions,
  roles: ["vae"],
  output: (_args, settings) => settings.output ?? "latents.safetensors",
  async perform({ args, settings, output: path }, context) {
    const pictures = await readPictures(args);
    return writeResult(path, await timed(encodeImage.name, context, () => encodeImage.run({ pictures }, settings, context)));
  },
});

const encodePromptOptions = { ...encodePrompt.options, output };
const encodePromptCommand = defineCommand({
  name: encodePrompt.name,
  summary: encodePrompt.summary,
  examples: ['qedit encode-prompt photo.jpg -p "make it black and white" -o cond.safetensors'],
  positional: ["[image...]", "pictures, in the order the prompt counts them"],
  options: encodePromptOptions,
  roles: ["textEncoder"],
  output: (_args, settings) => settings.output ?? "cond.safetensors",
  async perform({ args, settings, output: path }, context) {
    const pictures = await readPictures(args);
    return writeResult(path, await timed(encodePrompt.name, context, () => encodePrompt.run({ pictures }, settings, context)));
  },
});

const sampleOptions = {
  latents: mandatoryText({ flags: "--latents <file>", summary: "what encode-image made", group: "Prompt" }),
  cond: mandatoryText({ flags: "--cond <file>", summary: "what encode-prompt made", group: "Prompt" }),
  ...sample.options,
  output,
};
const sampleCommand = defineCommand({
  name: sample.name,
  summary: sample.summary,
  examples: ["qedit sample --latents latents.safetensors --cond cond.safetensors --seed 42 -o samples.safetensors"],
  options: sampleOptions,
  roles: ["transformer"],
  output: (_args, settings) => settings.output ?? "samples.safetensors",
  async perform({ settings, output: path }, context) {
    const latents = await readArtifact(settings.latents, "latents");
    const cond = await readArtifact(settings.cond, "cond");
    return writeResult(path, await timed(sample.name, context, () => sample.run({ latents, cond }, settings, context)));
  },
});

const decodeOptions = { ...decode.options, output, format };
const decodeCommand = defineCommand({
  name: decode.name,
  summary: decode.summary,
  examples: ["qedit decode samples.safetensors -o out.png"],
  positional: ["<samples>", "what sample made, or ComfyUI's SaveLatent"],
  options: decodeOptions,
  roles: ["vae"],
  output: ([samples], settings) => pictureOutput(settings, () => join(dirname(samples!), stem(samples!))),
  async perform({ args, settings, output: path }, context) {
    const samples = await readArtifact(args[0]!, "samples");
    return writePicture(path, settings, await timed(decode.name, context, () => decode.run({ samples }, settings, context)));
  },
});

/** The subcommands, in the order help lists them. */
export const COMMANDS: readonly CommandSpec[] = [run, encodeImageCommand, encodePromptCommand, sampleCommand, decodeCommand];

type PictureSettings = { readonly output: string | undefined; readonly format: string | undefined };

// A name with an extension that says the format, or one made from the input.
function pictureOutput({ output: path, format: name }: PictureSettings, otherwise: () => string): string {
  if (path === undefined) return `${otherwise()}.${name ?? "png"}`;
  pictureFormat(path, name);
  return path;
}

// What the name says, else --format; they may not contradict each other.
function pictureFormat(path: string, name: string | undefined): PictureFormat {
  if (name === undefined) return formatOf(path);
  const said = FORMATS[extname(path).slice(1).toLowerCase()];
  if (said === undefined || said === FORMATS[name]) return FORMATS[name]!;
  throw new QeditError("QEDIT_E_USAGE", `Cannot write ${path} as ${name}: its name says ${extname(path).slice(1)}`, { hint: "Leave out --format, or change the name" });
}

async function writePicture(path: string, { format: name }: PictureSettings, picture: DecodedPicture): Promise<Outcome> {
  await writeFileAtomically(path, await encodeDecoded(picture, pictureFormat(path, name)));
  return { output: path, kind: "picture", info: picture.info };
}

async function writeResult(path: string, artifact: Artifact): Promise<Outcome> {
  await writeArtifact(path, artifact);
  return { output: path, kind: artifact.kind, info: artifact.info };
}

function stem(path: string): string {
  return basename(path, extname(path));
}
