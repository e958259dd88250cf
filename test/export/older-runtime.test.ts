// Exported models in the release of ONNX Runtime that Triton has, at every level of optimization, against the one that qedit has. Needs PyPI.
import { execFile } from "node:child_process";
import { copyFileSync, linkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { clientNumbers, patchTensors, promptInput, seenByClient } from "../../src/edit/remote/client-inputs.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { stageModels } from "../../src/export/triton/stage-models.js";
import { encodeModel } from "../../src/graph/onnx.js";
import { float32, type Tensors, tensor } from "../../src/std/tensor.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { numbers } from "../graph/run.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { CPU, EMBEDDED, imageTensor, madePicture, type Names, openFiles, promptFeeds, wholes } from "./exported.js";

/** Triton's. */
const RELEASE = "1.27.0";
/** Of the largest value: two releases add up in other orders, and at each level. */
const SAME = 1e-4;

const python = await pythonWith([`onnxruntime==${RELEASE}`, "numpy"]);
if ("missing" in python) console.warn(`not run, for want of Python packages: ${python.missing}`);
const folder = temporaryFolder();
const LIGHTNING = { name: "tiny-model/tiny-Lightning-4steps-bf16", strength: 0.8 };

test.skipIf("missing" in python).each<[string, Names]>([
  ["the embedded model with its LoRA", { ...EMBEDDED, loras: [LIGHTNING] }],
  ["2509 in scaled fp8", { transformer: "tiny/transformer-scaled-fp8" }],
  ["2511", { transformer: "tiny/transformer-2511" }],
  [
    "Qwen-Image-2.1",
    {
      ...{ vae: "tiny-2/vae", transformer: "tiny-2/transformer" },
      textEncoder: (await tinyTextEncoder2({ folder: folder.path })).replace(/\.safetensors$/, ""),
    },
  ],
])(`models exported from %s give the same in ONNX Runtime ${RELEASE}`, async (label, names) => {
  const files = await openFiles(names);
  const models = stageModels(files, {
    ...{ images: 3, hasCfg: true, cfgNorm: 1, device: CPU },
    compute: { vae: "f32", textEncoder: "f32", transformer: "f32" },
  });
  const { inputs } = models.find(({ name }) => name === "sample")!;
  const dims = (name: string) => inputs.find((each) => each.name === name)?.dims;
  const width = dims("prompt_embeds")![2]!;
  const feeds = dims("image_positions")
    ? await feedsOf2({ width, channels: dims("noise")![1]! }, files)
    : await feedsOf(width, files);
  const engine = await directEngine(CPU);
  for (const { name, graph, optimization } of models) {
    const given = feeds[name]!;
    const made = await withSession(engine, await modelOf(graph, optimization), (session) => session.run(given));
    const at = (file: string) => join(label, name, file);
    folder.write(
      at("model.onnx"),
      encodeModel(graph, (file) => basename(file)),
    );
    for (const file of new Set([...graph.externals.values()].map((each) => each.file)))
      linkOrCopy(file, folder.at(at(basename(file))));
    folder.write(
      at("tensors.json"),
      JSON.stringify({ in: given, out: made }, (key, value) => (key === "data" ? undefined : value)),
    );
    for (const [side, tensors] of Object.entries({ in: given, out: made }))
      for (const [tensor, { data }] of Object.entries(tensors))
        writeFileSync(
          folder.at(at(`${side}.${tensor}.bin`)),
          new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        );
  }
  await engine.dispose();
  const { version, results } = await run(folder.at(label));
  expect(version).toBe(RELEASE);
  expect(results).toHaveLength(3 * models.length);
  for (const { model, error, shapes } of results) {
    const { outputs } = models.find(({ name }) => name === model)!;
    // The server compares these with the configuration.
    expect(shapes).toEqual(Object.fromEntries(outputs.map(({ name, dims }) => [name, dims])));
    expect(error, model).toBeLessThan(model === "decode" ? 1.01 / 255 : SAME);
  }
});

interface Report {
  readonly version: string;
  readonly results: readonly {
    readonly model: string;
    readonly error: number;
    readonly shapes: Readonly<Record<string, readonly number[]>>;
  }[];
}

async function run(place: string): Promise<Report> {
  const script = join(dirname(fileURLToPath(import.meta.url)), "older_runtime.py");
  const { stdout } = await promisify(execFile)(join((python as { bin: string }).bin, "python"), [script, place]);
  return JSON.parse(stdout) as Report;
}

function linkOrCopy(file: string, path: string): void {
  try {
    linkSync(file, path);
  } catch {
    copyFileSync(file, path);
  }
}

async function feedsOf(width: number, files: Awaited<ReturnType<typeof openFiles>>): Promise<Record<string, Tensors>> {
  const latents = [numbers([1, 16, 5, 6], 1), numbers([1, 16, 4, 7], 2), numbers([1, 16, 2, 2], 3)];
  const joined = (count: number) =>
    Object.fromEntries(latents.slice(0, count).map((each, index) => [`latent_${index + 1}`, each]));
  const sample = {
    noise: latents[0]!,
    reference_tokens: numbers([1, 9 + 6, 64], 2),
    reference_sizes: wholes([2, 2], [5, 6, 4, 6]),
    prompt_embeds: numbers([1, 5, width], 3),
    sigmas: float32([4], Float32Array.of(1, 0.8, 0.5, 0)),
  };
  const guidance = { negative_prompt_embeds: numbers([1, 8, width], 5), cfg: float32([1], Float32Array.of(2.5)) };
  return {
    encode_image: { image: imageTensor(madePicture([56, 40])) },
    encode_prompt: await promptFeeds(
      "make it winter",
      [madePicture([97, 61]), madePicture([70, 83], 2)],
      files.textEncoder,
    ),
    ...Object.fromEntries([1, 2, 3].map((count) => [`join_${count}`, joined(count)])),
    ...{ sample, sample_cfg: { ...sample, ...guidance } },
    decode: { latents: numbers([1, 16, 5, 7]) },
  };
}

type Files = Awaited<ReturnType<typeof openFiles>>;

async function feedsOf2(
  { width, channels }: { readonly width: number; readonly channels: number },
  files: Files,
): Promise<Record<string, Tensors>> {
  const latents = [numbers([1, channels, 4, 6], 1), numbers([1, channels, 4, 2], 2), numbers([1, channels, 2, 2], 3)];
  const joined = (count: number) =>
    Object.fromEntries(latents.slice(0, count).map((each, index) => [`latent_${index + 1}`, each]));
  const sample = {
    noise: latents[0]!,
    reference_tokens: numbers([1, 24 + 8, channels], 2),
    reference_sizes: wholes([2, 2], [4, 6, 4, 2]),
    prompt_embeds: numbers([1, 5, width], 3),
    image_positions: wholes([2], [1, 3]),
    sigmas: float32([4], Float32Array.of(1, 0.8, 0.5, 0)),
  };
  const guidance = {
    negative_prompt_embeds: numbers([1, 8, width], 5),
    negative_image_positions: wholes([2], [0, 0]),
    cfg: float32([1], Float32Array.of(2.5)),
  };
  const client = clientNumbers(files);
  const pictures = [madePicture([64, 32]), madePicture([32, 64], 2)];
  const seen = seenByClient(pictures, { match: undefined, size: undefined, megapixels: 0.015 }, client);
  const reading = { match: undefined, family: client.family, tokenizer: await loadTokenizer("qwen3") };
  const image = tensor(
    "uint8",
    [32, 64, 4],
    Uint8Array.from({ length: 32 * 64 * 4 }, (_, at) => (at * 7) % 251),
  );
  return {
    encode_image: { image },
    encode_prompt: {
      input_ids: promptInput("make it winter", seen, reading).ids,
      ...patchTensors(seen, client.patches),
    },
    join_0: { noise: latents[0]! },
    ...Object.fromEntries([1, 2, 3].map((count) => [`join_${count}`, joined(count)])),
    ...{ sample, sample_cfg: { ...sample, ...guidance } },
    decode: { latents: numbers([1, channels, 4, 6]) },
  };
}
