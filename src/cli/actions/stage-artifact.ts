// Implements the commands of single stages: finds and opens model files, runs the stage, writes its result.
import type { Artifact } from "../../artifacts/artifact.js";
import type { QualitySettings } from "../../edit/finish/picture-encoding.js";
import type { ParameterTable, SettingsOf } from "../../edit/parameters/parameter.js";
import type { MODEL_PARAMETERS, STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import { findLoras, findModelFile } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { resolveSampling } from "../../edit/resolve/sampling-defaults.js";
import type { EditService } from "../../edit/service/service.js";
import { encodeDecoded } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt, refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import type { ModelHandle, ModelRole } from "../../stages/networks/model-handle.js";
import { announceProfiles } from "../../stages/pictures.js";
import { sample } from "../../stages/sample.js";
import { checkInputs, inputArtifact, inputPictures, inputPrompt } from "../files/input.js";
import {
  checkArtifactOutput,
  checkOutput,
  type Overwriting,
  outputPath,
  STREAM,
  writeArtifactOutput,
  writeOutput,
} from "../files/output.js";
import { pictureEncoding, picturePath, refuseUselessQuality } from "../files/picture-output.js";
import type { Terminal } from "../render/terminal.js";
import type { GivenSetting } from "../settings/settings.js";
import { type ComputeSettings, withService } from "../with-service.js";

type ModelSettings = SettingsOf<typeof MODEL_PARAMETERS>;

/** The settings of a stage's command. */
type StageSettings<Table extends ParameterTable> = SettingsOf<Table> &
  ModelSettings &
  ComputeSettings &
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
  const settings = await resolveSettings({ settings: unresolved, given, force, emit: terminal.emit });
  checkInputs(args, terminal.io);
  await writeComputed(
    { path: outputPath(settings.output, "latents.safetensors"), settings, terminal },
    async (service) => {
      const vae = await modelOf("vae", settings, terminal);
      const pictures = await inputPictures(args, terminal.io);
      return service.runStage(encodeImage, { inputs: { pictures }, models: { vae }, settings });
    },
  );
}

/** Runs `qedit encode-prompt`. */
export async function encodeText(
  { args, settings }: StageCall<StageSettings<Parameters["encode-prompt"]>>,
  terminal: Terminal,
): Promise<void> {
  checkInputs([...args, settings.prompt], terminal.io);
  refuseEmptyPrompt(settings);
  await writeComputed(
    { path: outputPath(settings.output, "cond.safetensors"), settings, terminal },
    async (service) => {
      const textEncoder = await modelOf("textEncoder", settings, terminal);
      const prompt = await inputPrompt(settings, terminal.io);
      const pictures = await inputPictures(args, terminal.io);
      announceProfiles(pictures, settings, terminal.emit);
      const input = { inputs: { pictures }, models: { textEncoder }, settings: { ...settings, prompt } };
      return service.runStage(encodePrompt, input);
    },
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
  const settings = await resolveSettings({ settings: unresolved, given, force: unresolved.force, emit });
  checkInputs([settings.latents, settings.cond], io);
  await writeComputed(
    { path: outputPath(settings.output, "samples.safetensors"), settings, terminal },
    async (service) => {
      const library = modelLibrary();
      const transformer = await library.model(await findModelFile("transformer", settings, emit), "transformer", emit);
      const named = await findLoras(settings.lora, settings, emit);
      const loras = await library.loras(named, { transformer, isStrict: settings.strictLora, emit });
      const latents = await inputArtifact(settings.latents, "latents", io);
      const cond = await inputArtifact(settings.cond, "cond", io);
      const numbers = { ...settings, ...resolveSampling(settings) };
      const { settings: drawn, isDrawn } = drawSeed(numbers, emit);
      const input = { inputs: { latents, cond }, models: { transformer, loras }, settings: drawn };
      return service.runStage(sample, input, { isDrawn });
    },
  );
}

/** Runs `qedit decode`. */
export async function decodeSamples(
  {
    args,
    settings,
    given,
  }: StageCall<StageSettings<Parameters["decode"]> & QualitySettings & { readonly format: string | undefined }>,
  terminal: Terminal,
): Promise<void> {
  const { force } = settings;
  checkInputs(args, terminal.io);
  const path = picturePath(settings, args[0]!, "");
  const encoding = pictureEncoding(path, settings);
  refuseUselessQuality(encoding.format, given);
  await checkOutput(path, settings, terminal);
  const vae = await modelOf("vae", settings, terminal);
  const { value, device, seconds } = await withService(settings, terminal, async (service) => {
    const samples = await inputArtifact(args[0]!, "samples", terminal.io);
    const picture = await service.decode({ inputs: { samples }, models: { vae }, settings });
    await writeOutput(path, await encodeDecoded(picture, encoding), { force, terminal });
    return picture.info;
  });
  if (path !== STREAM) terminal.result({ output: path, kind: "picture", info: value, device, seconds }, [path]);
}

async function modelOf(
  role: ModelRole,
  settings: ModelSettings & { readonly [Role in ModelRole]?: string | undefined },
  { emit }: Terminal,
): Promise<ModelHandle> {
  return modelLibrary().model(await findModelFile(role, settings, emit), role, emit);
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
