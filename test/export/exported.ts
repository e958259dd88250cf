// Exported stage models beside the stages of the pipeline, over one set of model files on the CPU.
import { isAbsolute } from "node:path";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { computeType } from "../../src/engine/providers.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, type Session } from "../../src/engine/sessions/engine.js";
import type { StageFiles, StageModelOptions } from "../../src/export/triton/stage-models.js";
import { stageModels } from "../../src/export/triton/stage-models.js";
import { CHANNELS } from "../../src/image/image.js";
import { visionPatches } from "../../src/image/patches.js";
import { applySteps } from "../../src/image/resize/resize.js";
import { planSizes } from "../../src/image/resize/size-plan.js";
import { visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { vaeStatistics } from "../../src/models/vaes.js";
import { activeLora, openMatchedLora } from "../../src/stages/networks/loras.js";
import { type ModelHandle, numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { type Picture, sourceOf } from "../../src/stages/pictures.js";
import type { Memoize, StageContext } from "../../src/stages/stage.js";
import { float32, type Tensor, type Tensors, tensor } from "../../src/std/tensor.js";
import { editPrompt, expandImages } from "../../src/text/prompt.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import type { TemporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { type RawTensor, raw, writeRaw } from "../support/quantised.js";

/** Where exported models run in tests. */
export const CPU = { provider: "cpu", index: 0, threads: 1 } as const;

/** Model files by the names of their fixtures, without folder and `.safetensors`. */
export interface Names {
  readonly vae?: string;
  readonly textEncoder?: string;
  readonly transformer?: string;
  readonly loras?: readonly { readonly name: string; readonly strength: number }[];
}

/** The model that the package holds. */
export const EMBEDDED = {
  vae: "tiny-model/tiny_vae",
  textEncoder: "tiny-model/tiny_text_encoder_fp8_scaled",
  transformer: "tiny-model/tiny_edit_fp8_e4m3fn",
};

/** Writes a fixture's weights in bfloat16, those in 8 bits times their scale; gives the new file's name. */
export async function inBfloat16(name: string, folder: TemporaryFolder): Promise<string> {
  const { tensors, metadata } = await readSafetensors(fixture(`${name}.safetensors`));
  const written: Record<string, RawTensor> = {};
  for (const [key, stored] of tensors) {
    if (/scale_(weight|input)$|^scaled_fp8$/.test(key)) continue;
    const scale = tensors.get(key.replace(/weight$/, "scale_weight"));
    const factor = scale === undefined ? 1 : (await readTensor(scale))[0]!;
    written[key] = raw(
      stored.shape,
      (await readTensor(stored)).map((value) => value * factor),
      "BF16",
    );
  }
  return (await writeRaw(folder.at(`${name}-in-bf16.safetensors`), written, metadata)).replace(/\.safetensors$/, "");
}

/** Opens model files of fixtures, or by absolute paths. */
export async function openFiles({
  vae = "tiny/vae",
  textEncoder = "tiny/text-encoder",
  transformer = "tiny/transformer",
  loras = [],
}: Names = {}): Promise<StageFiles> {
  const path = (name: string) => (isAbsolute(name) ? `${name}.safetensors` : fixture(`${name}.safetensors`));
  const opened = await openModel(path(transformer), "transformer");
  return {
    vae: await openModel(path(vae), "vae"),
    textEncoder: await openModel(path(textEncoder), "textEncoder"),
    transformer: opened,
    loras: await Promise.all(
      loras.map(async ({ name, strength }, index) =>
        activeLora(await openMatchedLora(path(name), opened.checkpoint), { index, strength }),
      ),
    ),
  };
}

/** Exported models that run on the CPU. */
export interface ExportedSessions extends AsyncDisposable {
  /** Runs a model; throws where it has other outputs, or outputs of other shapes, than it says. */
  run(name: string, feeds: Tensors): Promise<Tensors>;
  /** What stages of the pipeline run in. */
  readonly context: StageContext;
}

/** Exports models and opens each when it is first run. */
export async function exported(files: StageFiles, options: Partial<StageModelOptions> = {}): Promise<ExportedSessions> {
  const models = stageModels(files, {
    images: 3,
    hasCfg: true,
    cfgNorm: 1,
    compute: {
      vae: computeType(CPU, "vae"),
      textEncoder: computeType(CPU, "text-encoder"),
      transformer: computeType(CPU, "transformer"),
    },
    device: CPU,
    ...options,
  });
  const engine = await directEngine(CPU);
  const sessions = new Map<string, Session>();
  return {
    async run(name, feeds) {
      const { graph, optimization, outputs } = models.find((each) => each.name === name)!;
      const session = sessions.get(name) ?? (await engine.open(await modelOf(graph, optimization)));
      sessions.set(name, session);
      const results = await session.run(feeds);
      for (const { name: output, dims } of outputs) {
        const { shape } = results[output]!;
        if (shape.length !== dims.length || !dims.every((dim, axis) => dim === -1 || dim === shape[axis]))
          throw new Error(`${output} of ${name} is [${shape.join(", ")}], described as [${dims.join(", ")}]`);
      }
      return results;
    },
    context: { engine, emit: () => {}, signal: new AbortController().signal, memoize: memoizeTokenizer },
    [Symbol.asyncDispose]: () => engine.dispose(),
  };
}

/** A picture of slopes and stripes; no two numbers give the same one. */
export function madePicture([width, height]: readonly [number, number], number = 1): Picture {
  const data = new Uint8Array(width * height * CHANNELS);
  for (let at = 0; at < data.length; at++) {
    const [x, y] = [Math.floor(at / CHANNELS) % width, Math.floor(at / CHANNELS / width)];
    const stripe = (x * number + 2 * y) % 17 < 6 ? 90 : 0;
    data[at] = ((x * 120) / width + (y * (40 + 30 * (at % CHANNELS))) / height + stripe) % 256;
  }
  return { name: `picture ${number}`, image: { width, height, data }, hash: `made ${number}` };
}

/** A picture as exported models take it: bytes [height, width, 3]. */
export function imageTensor({ image: { width, height, data } }: Pick<Picture, "image">): Tensor<"uint8"> {
  return tensor("uint8", [height, width, CHANNELS], new Uint8Array(data));
}

/** What `encode_prompt` takes for a prompt about pictures. */
export async function promptFeeds(prompt: string, pictures: readonly Picture[], file: ModelHandle): Promise<Tensors> {
  const { patchSize, temporalPatchSize, mergeSize, channels } = visionConfig(numbersOf(file.checkpoint), file.config);
  const patches = { patch: patchSize, temporal: temporalPatchSize, merge: mergeSize };
  const plan = pictures.length === 0 ? { images: [] } : planSizes(pictures.map(sourceOf), { mode: "default", patches });
  const seen = pictures.map(({ image }, index) =>
    visionPatches(applySteps(image, plan.images[index]!.vision.steps), patches),
  );
  const template = editPrompt(prompt, { slots: pictures.map((_, index) => index + 1) });
  const { ids } = expandImages(
    (await tokenizer).encode(template),
    plan.images.map(({ vision }) => vision.tokens),
  );
  const rows = seen.flatMap(({ pixelValues }) => [...pixelValues.data]);
  const values = channels * temporalPatchSize * patchSize ** 2;
  return {
    input_ids: wholes([1, ids.length], ids),
    pixel_values: float32([rows.length / values, values], Float32Array.from(rows)),
    image_grid_thw: wholes(
      [seen.length, 3],
      seen.flatMap(({ grid }) => grid),
    ),
  };
}

const tokenizer = loadTokenizer();

// Loading takes half a second.
const memoizeTokenizer: Memoize = (key, make) =>
  key === "tokenizer" ? (tokenizer as ReturnType<typeof make>) : make();

/** Whole numbers as a tensor. */
export function wholes(shape: readonly number[], numbers: readonly number[]): Tensor<"int64"> {
  return tensor("int64", shape, BigInt64Array.from(numbers.map(BigInt)));
}

/** A latent normalised, and back. */
export function scaling({ vae }: StageFiles) {
  const { mean, std } = vaeStatistics(numbersOf(vae.checkpoint), vae.config);
  const each = (tensor: Tensor, change: (value: number, channel: number) => number): Tensor<"float32"> => {
    const area = tensor.shape[2]! * tensor.shape[3]!;
    const data = (tensor.data as Float32Array).map((value, index) => change(value, Math.floor(index / area)));
    return float32(tensor.shape, data);
  };
  return {
    statistics: { mean, std },
    normalised: (latent: Tensor) => each(latent, (value, channel) => (value - mean[channel]!) / std[channel]!),
    restored: (latent: Tensor) => each(latent, (value, channel) => value * std[channel]! + mean[channel]!),
  };
}
