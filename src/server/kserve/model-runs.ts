// What the models do: a stage in turn with the server's jobs, or a whole edit as one of these jobs.
import { type Artifact, recordText } from "../../artifacts/artifact.js";
import { recipeText } from "../../artifacts/recipe.js";
import { knownHash } from "../../catalog/local/known-hash.js";
import { HASHES_PARAMETER } from "../../edit/remote/remote-weights.js";
import {
  resolveDecode,
  resolveEncodeImage,
  resolveEncodePrompt,
  resolveSample,
} from "../../edit/request/stage-request.js";
import type { Box } from "../../image/image.js";
import { bytesTensor, ofTensor, type V2Tensor } from "../../kserve/v2-tensor.js";
import { encodeDecoded, encodedInfo } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import type { ActiveLora } from "../../stages/networks/loras.js";
import type { ModelHandle } from "../../stages/networks/model-handle.js";
import type { Picture } from "../../stages/pictures.js";
import { sample } from "../../stages/sample.js";
import { LazyPictures } from "../lazy-pictures.js";
import { checkCount, checkWork } from "../limits.js";
import { followed, type ModelCall, type ModelResult } from "./model-call.js";
import { readArtifactOf, readMask, readModelParameters, readPicturesOf, readRegion } from "./model-inputs.js";
import type { ModelName } from "./model-specs.js";

/** What each model does. Throws QeditError, V2Error. */
export const MODEL_RUNS: Readonly<Record<ModelName, (call: ModelCall) => Promise<ModelResult>>> = {
  encode_image: runEncodeImage,
  encode_prompt: runEncodePrompt,
  sample: runSample,
  decode: runDecode,
  qedit: runEdit,
};

const LATENTS = /^(latent|reference_latents\.\d+)$/;
const COND = /^(negative_)?(prompt_embeds|image_positions)$/;
const SAMPLES = /^latent_tensor$/;

async function runEncodeImage(call: ModelCall): Promise<ModelResult> {
  const { server, signal, emit } = call;
  const { settings, models } = await resolveEncodeImage(parametersOf(call), originOf(call));
  checkWork(settings, server.limits);
  return call.inTurn("encode-image", async () => {
    const pictures = await decodedPictures(call);
    call.clock.phase("compute_infer");
    const artifact = await server.service.runStage(
      encodeImage,
      { inputs: { pictures }, models, settings: withRegionOf(call, settings, pictures) },
      { signal, emit },
    );
    return outputsOf(artifact, "latents_record", models);
  });
}

async function runEncodePrompt(call: ModelCall): Promise<ModelResult> {
  const { server, signal, emit } = call;
  const { settings, models } = await resolveEncodePrompt(parametersOf(call), originOf(call));
  checkWork(settings, server.limits);
  return call.inTurn("encode-prompt", async () => {
    const pictures = call.request.tensors.has("IMAGE") ? await decodedPictures(call) : [];
    call.clock.phase("compute_infer");
    const artifact = await server.service.runStage(
      encodePrompt,
      { inputs: { pictures }, models, settings: withRegionOf(call, settings, pictures) },
      { signal, emit },
    );
    return outputsOf(artifact, "cond_record", models);
  });
}

async function runSample(call: ModelCall): Promise<ModelResult> {
  const { server, signal, emit, request } = call;
  const { limits } = server;
  const { settings, models, isDrawn } = await resolveSample(parametersOf(call), originOf(call));
  checkWork({ steps: settings.steps }, limits);
  return call.inTurn("sample", async () => {
    const read = { limits };
    const latents = readArtifactOf("latents", request.tensors, { ...read, names: LATENTS, record: "latents_record" });
    const cond = readArtifactOf("cond", request.tensors, { ...read, names: COND, record: "cond_record" });
    call.clock.phase("compute_infer");
    const input = { inputs: { latents, cond }, models, settings };
    const artifact = await server.service.runStage(sample, input, { signal, emit, isDrawn });
    return outputsOf(artifact, "samples_record", models);
  });
}

async function runDecode(call: ModelCall): Promise<ModelResult> {
  const { server, signal, emit, request, clock } = call;
  const { limits } = server;
  const { settings, models, encoding } = await resolveDecode(parametersOf(call), originOf(call));
  return call.inTurn("decode", async () => {
    const samples = readArtifactOf("samples", request.tensors, { names: SAMPLES, record: "samples_record", limits });
    clock.phase("compute_infer");
    const picture = await server.service.decode({ inputs: { samples }, models, settings }, { signal, emit });
    clock.phase("compute_output");
    const bytes = await encodeDecoded(picture, encoding);
    return {
      outputs: pictureOf(bytes, recipeText(encodedInfo(picture.info, encoding))),
      parameters: await hashesOf(models),
    };
  });
}

async function runEdit(call: ModelCall): Promise<ModelResult> {
  const { server, request, clock } = call;
  const { tensors } = request;
  const edit = { pictures: readPicturesOf(tensors), mask: readMask(tensors), parameters: parametersOf(call) };
  clock.phase("queue");
  const job = await server.submit(edit);
  const { type, width, height, seed, device, recipe } = await followed(job, call);
  clock.phase("compute_output");
  const outputs = pictureOf(await job.content(), JSON.stringify(recipe));
  return { outputs, parameters: { type, width, height, seed, device } };
}

function withRegionOf<Settings extends object>(
  { request: { tensors } }: ModelCall,
  settings: Settings,
  pictures: readonly Picture[],
): Settings & { readonly region?: Box } {
  const region = readRegion(tensors, pictures);
  return region === undefined ? settings : { ...settings, region };
}

function parametersOf({ request }: ModelCall): Readonly<Record<string, unknown>> {
  return readModelParameters(request.tensors, request.parameters);
}

function originOf({ server: { base, library }, emit }: ModelCall) {
  return { base, library, emit };
}

async function decodedPictures({ server: { limits }, request }: ModelCall): Promise<readonly Picture[]> {
  const edit = { pictures: readPicturesOf(request.tensors), parameters: {} };
  checkCount(edit.pictures.length, limits);
  return new LazyPictures(async () => edit, limits).lazy.pictures();
}

async function outputsOf(artifact: Artifact, record: string, models: UsedModels): Promise<ModelResult> {
  const tensors = Object.entries(artifact.tensors).map(([name, each]) => ofTensor(name, each));
  return {
    outputs: [...tensors, bytesTensor(record, [recordText(artifact)])],
    parameters: await hashesOf(models),
  };
}

/** The model files of a stage; undefined where it runs elsewhere. */
interface UsedModels {
  readonly vae?: ModelHandle | undefined;
  readonly textEncoder?: ModelHandle | undefined;
  readonly transformer?: ModelHandle | undefined;
  readonly loras?: readonly ActiveLora[];
}

// What the weights are held against where the catalogue's hashes are known. Records have identities, which no hash of a file gives.
async function hashesOf({ vae, textEncoder, transformer, loras = [] }: UsedModels) {
  const files = [
    ["vae", vae?.checkpoint.file],
    ["text_encoder", textEncoder?.checkpoint.file],
    ["transformer", transformer?.checkpoint.file],
    ...loras.map(({ file }, index) => [`lora.${index}`, file] as const),
  ] as const;
  const known: Record<string, string> = {};
  for (const [role, file] of files) {
    const hash = file === undefined ? undefined : await knownHash(file);
    if (hash !== undefined) known[role] = hash;
  }
  return Object.keys(known).length === 0 ? {} : { [HASHES_PARAMETER]: JSON.stringify(known) };
}

function pictureOf(bytes: Uint8Array, recipe: string): readonly V2Tensor[] {
  return [bytesTensor("IMAGE", [bytes]), bytesTensor("RECIPE", [recipe])];
}
