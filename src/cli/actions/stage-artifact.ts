// Implements the commands of single stages: finds and opens model files, runs the stage, writes its result.
import type { Artifact } from "../../artifacts/artifact.js";
import type { QualitySettings } from "../../edit/finish/picture-encoding.js";
import { jsonName, type ParameterTable, type SettingsOf } from "../../edit/parameters/parameter.js";
import type { MODEL_PARAMETERS, STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import { type NamingSettings, refuseFilesElsewhere } from "../../edit/resolve/files-elsewhere.js";
import { type ModelLibrary, modelLibrary } from "../../edit/resolve/model-library.js";
import { findLoras, findModelFile } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { resolveSampling } from "../../edit/resolve/sampling-defaults.js";
import type { EditService } from "../../edit/service/service.js";
import { textEncoderOf } from "../../models/text-encoders.js";
import { encodeDecoded, encodedInfo, flattening, hasRepeatedRim, unfinishedInfo } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt, refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { type ModelHandle, type ModelRole, numbersOf } from "../../stages/networks/model-handle.js";
import { announceProfiles } from "../../stages/pictures.js";
import { fittingInputs, sample } from "../../stages/sample.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { checkInputs, inputArtifact, inputPictures, inputPrompt } from "../files/input.js";
import {
  checkArtifactOutput,
  checkOutput,
  type Overwriting,
  outputPath,
  writeArtifactOutput,
  writeOutput,
} from "../files/output.js";
import { pictureEncoding, picturePath, refuseUselessQuality } from "../files/picture-output.js";
import { STREAM } from "../io.js";
import type { Terminal } from "../render/terminal.js";
import { type RemoteSettings, serversOfStage } from "../settings/remote-options.js";
import type { GivenSetting } from "../settings/settings.js";
import { type ComputeSettings, withService } from "../with-service.js";

type ModelSettings = SettingsOf<typeof MODEL_PARAMETERS>;

/** The settings of a stage's command. */
type StageSettings<Table extends ParameterTable> = SettingsOf<Table> &
  ModelSettings &
  ComputeSettings &
  RemoteSettings &
  Overwriting & { readonly output: string | undefined };

/** A call of a stage's command. */
interface StageCall<Settings> {
  readonly args: readonly string[];
  readonly settings: Settings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

type Parameters = typeof STAGE_PARAMETERS;

/** Runs `qedit encode-image`. */
export async function encodePictures(
  { args, settings: unresolved, given }: StageCall<StageSettings<Parameters["encode-image"]>>,
  terminal: Terminal,
): Promise<void> {
  const { force } = unresolved;
  const resolved = await resolveSettings({ settings: unresolved, given, force, emit: terminal.emit });
  const settings = { ...resolved, ...elsewhereOf("encode-image", { settings: resolved, given }, terminal) };
  checkInputs(args, terminal.io);
  await writeComputed(
    { path: outputPath(settings.output, "latents.safetensors"), settings, terminal },
    async (service) => {
      const library = modelLibrary();
      const found = await modelOf("encode-image", settings, terminal, library);
      const pictures = await inputPictures(args, terminal.io);
      const vae = found && (await library.ready(found, terminal.emit));
      return service.runStage(encodeImage, { inputs: { pictures }, models: { vae }, settings });
    },
  );
}

/** Runs `qedit encode-prompt`. */
export async function encodeText(
  { args, settings: unresolved, given }: StageCall<StageSettings<Parameters["encode-prompt"]>>,
  terminal: Terminal,
): Promise<void> {
  const asked = await resolveSettings({ settings: unresolved, given, force: unresolved.force, emit: terminal.emit });
  checkInputs([...args, asked.prompt], terminal.io);
  refuseEmptyPrompt(asked);
  const settings = { ...asked, ...elsewhereOf("encode-prompt", { settings: asked, given }, terminal) };
  await writeComputed(
    { path: outputPath(settings.output, "cond.safetensors"), settings, terminal },
    async (service) => {
      const library = modelLibrary();
      const found = await modelOf("encode-prompt", settings, terminal, library);
      refuseUselessSizes(given, found);
      const prompt = await inputPrompt(settings, terminal.io);
      const pictures = await inputPictures(args, terminal.io);
      announceProfiles(pictures, settings, terminal.emit);
      const textEncoder = found && (await library.ready(found, terminal.emit));
      const input = { inputs: { pictures }, models: { textEncoder }, settings: { ...settings, prompt } };
      return service.runStage(encodePrompt, input);
    },
  );
}

// Sizes of the result mean nothing to a text encoder that sees pictures at a size of its own.
function refuseUselessSizes(given: StageCall<unknown>["given"], textEncoder: ModelHandle | undefined): void {
  const name = ["size", "megapixels", "resolutionSteps"].find((each) => given.get(each)?.isOfCall);
  if (name === undefined || textEncoder === undefined) return;
  const { conventions, name: family } = textEncoderOf(numbersOf(textEncoder.checkpoint));
  if (conventions.references !== undefined) return;
  const parameter = jsonName(name);
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${param(parameter)} with ${textEncoder.name}: a ${family} text encoder sees pictures at a size of its own`,
    { hint: `Leave out ${param(parameter)}`, parameter },
  );
}

/** Runs `qedit sample`. */
export async function sampleLatents(
  {
    settings: unresolved,
    given,
  }: StageCall<StageSettings<Parameters["sample"]> & { readonly latents: string; readonly cond: string }>,
  terminal: Terminal,
): Promise<void> {
  const { io, emit } = terminal;
  const resolved = await resolveSettings({ settings: unresolved, given, force: unresolved.force, emit });
  const settings = { ...resolved, ...elsewhereOf("sample", { settings: resolved, given }, terminal) };
  checkInputs([settings.latents, settings.cond], io);
  await writeComputed(
    { path: outputPath(settings.output, "samples.safetensors"), settings, terminal },
    async (service) => {
      const library = modelLibrary();
      const found = await modelOf("sample", settings, terminal, library);
      const matching = found && { transformer: found, isStrict: settings.strictLora, emit };
      const loras = matching ? await library.loras(await findLoras(settings.lora, settings, emit), matching) : [];
      const latents = await inputArtifact(settings.latents, "latents", io);
      const cond = await inputArtifact(settings.cond, "cond", io);
      const numbers = { ...settings, ...resolveSampling(settings) };
      const { settings: drawn, isDrawn } = drawSeed(numbers, emit);
      const inputs = { latents, cond };
      if (found) fittingInputs({ inputs, models: { transformer: found }, settings: drawn });
      const transformer = found && (await library.ready(found, emit));
      const input = { inputs, models: { transformer, loras }, settings: drawn };
      return service.runStage(sample, input, { isDrawn });
    },
  );
}

/** Runs `qedit decode`. */
export async function decodeSamples(
  {
    args,
    settings: asked,
    given,
  }: StageCall<StageSettings<Parameters["decode"]> & QualitySettings & { readonly format: string | undefined }>,
  terminal: Terminal,
): Promise<void> {
  const settings = { ...asked, ...elsewhereOf("decode", { settings: asked, given }, terminal) };
  const { force } = settings;
  checkInputs(args, terminal.io);
  const path = picturePath(settings, args[0]!, "");
  const encoding = pictureEncoding(path, settings);
  refuseUselessQuality(encoding.format, given);
  await checkOutput(path, settings, terminal);
  const library = modelLibrary();
  const found = await modelOf("decode", settings, terminal, library);
  const { value, device, seconds } = await withService(settings, terminal, async (service) => {
    const samples = await inputArtifact(args[0]!, "samples", terminal.io);
    const vae = found && (await library.ready(found, terminal.emit));
    const decoded = await service.decode({ inputs: { samples }, models: { vae }, settings });
    if (hasRepeatedRim(decoded.info)) terminal.emit({ kind: "warning", text: REPEATED_RIM });
    const picture = { ...decoded, info: unfinishedInfo(decoded.info) };
    const flattened = flattening(picture, encoding);
    if (flattened !== undefined) terminal.emit({ kind: "note", text: flattened });
    await writeOutput(path, await encodeDecoded(picture, encoding), { force, terminal });
    return encodedInfo(picture.info, encoding);
  });
  if (path !== STREAM) terminal.result({ output: path, kind: "picture", info: value, device, seconds }, [path]);
}

const REPEATED_RIM =
  "picture 1 was cropped, and is not known here: the edge of what the models made is repeated around it, where `qedit run` has picture 1's own pixels";

/** The model file of each stage. */
const ROLES: Readonly<Record<StageName, ModelRole>> = {
  "encode-image": "vae",
  "encode-prompt": "textEncoder",
  sample: "transformer",
  decode: "vae",
};

// undefined where the stage runs elsewhere.
async function modelOf(
  stage: StageName,
  settings: ModelSettings & Pick<RemoteSettings, "remote"> & { readonly [Role in ModelRole]?: string | undefined },
  { emit }: Terminal,
  library: ModelLibrary,
): Promise<ModelHandle | undefined> {
  if (settings.remote[stage]) return undefined;
  const role = ROLES[stage];
  return library.model(await findModelFile(role, settings, emit), role, emit);
}

// The servers of the stage. Throws QEDIT_E_USAGE for what has no effect with them.
function elsewhereOf(
  stage: StageName,
  { settings, given }: { settings: NamingSettings & RemoteSettings; given: ReadonlyMap<string, GivenSetting> },
  { emit }: Terminal,
): Pick<RemoteSettings, "remote"> & { readonly stages: readonly StageName[] } {
  const own = serversOfStage(stage, settings, given);
  // The other stages do not run at all.
  const elsewhere = new Set(own.remote[stage] ? STAGES : []);
  refuseFilesElsewhere(settings, { given, elsewhere, emit });
  return { ...own, stages: [stage] };
}

/** The output path of an artifact, and settings of computing it. */
interface ArtifactCall {
  readonly path: string;
  readonly settings: ComputeSettings & Overwriting;
  readonly terminal: Terminal;
}

// Checks that the artifact can be written before computing it.
async function writeComputed(
  { path, settings, terminal }: ArtifactCall,
  make: (service: EditService) => Promise<Artifact>,
): Promise<void> {
  const { force } = settings;
  await checkArtifactOutput(path, settings, terminal);
  const { value: artifact, device, seconds } = await withService(settings, terminal, make);
  await writeArtifactOutput(path, artifact, { force, terminal });
  if (path !== STREAM)
    terminal.result({ output: path, kind: artifact.kind, info: artifact.info, device, seconds }, [path]);
}
