// What reads files that may come from anywhere, each with hostile inputs for it. A target may throw QeditError, and nothing else.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { decodeArtifact, encodeArtifact } from "../../src/artifacts/artifact.js";
import { parseRecipe, toRecipe } from "../../src/artifacts/recipe.js";
import { matchLora, matchTable } from "../../src/checkpoint/lora/lora.js";
import { openLora } from "../../src/checkpoint/lora/lora-config.js";
import { openCheckpoint, openPart } from "../../src/checkpoint/open.js";
import { packedMetadata } from "../../src/checkpoint/packed/packed-file.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { checkpointConfig, decodeSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { encodeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { run } from "../../src/cli/commands/run.js";
import { readJobs } from "../../src/cli/jobs/job-lines.js";
import { makerLine, recipeLines } from "../../src/cli/render/recipe-lines.js";
import { givenSettings } from "../../src/cli/settings/settings.js";
import { readSettingsFiles } from "../../src/cli/settings/settings-files.js";
import { checkSettingsKeys } from "../../src/cli/settings/settings-keys.js";
import { inspectFile } from "../../src/edit/inspect-file.js";
import { EDIT_PARAMETERS } from "../../src/edit/parameters/table.js";
import { recipeDifferences } from "../../src/edit/recipe/compare-recipes.js";
import { recipeIn } from "../../src/edit/recipe/recipe-of-file.js";
import { inputRoles, readSettings, recipeSettings } from "../../src/edit/recipe/recipe-settings.js";
import { Graph } from "../../src/graph/graph.js";
import { pictureTexts } from "../../src/image/io/description.js";
import { readImage, readSize } from "../../src/image/io/read.js";
import { linear } from "../../src/models/layers.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { ggufBytes, repackedTo } from "../support/gguf.js";
import { fixture } from "../support/golden.js";
import { altered, damaged, safetensorsOf } from "./arbitraries.js";

/** A target: `read` throws QeditError for input that it refuses. */
export interface Target<Input = unknown> {
  readonly inputs: fc.Arbitrary<Input>;
  readonly read: (input: Input, folder: string) => Promise<void>;
}

const bytesOf = (name: string): Uint8Array => readFileSync(fixture(name));

// The header of a .safetensors file as a document, and the data behind it.
function partsOf(bytes: Uint8Array): { readonly header: unknown; readonly data: Uint8Array } {
  const length = Number(Buffer.from(bytes.subarray(0, 8)).readBigUInt64LE());
  return {
    header: JSON.parse(Buffer.from(bytes.subarray(8, 8 + length)).toString()),
    data: bytes.subarray(8 + length),
  };
}

function files(...valid: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    ...valid.flatMap((bytes) => {
      const { header, data } = partsOf(bytes);
      return [safetensorsOf(altered(header), data), damaged(bytes)];
    }),
  );
}

function target<Input>(inputs: fc.Arbitrary<Input>, read: Target<Input>["read"]): Target {
  return { inputs, read } as Target;
}

const transformer = await openCheckpoint(fixture("tiny/transformer.safetensors"));
const LORAS = ["published", "second"].map((name) => bytesOf(`tiny/loras/${name}.safetensors`));
const layers = await openCheckpoint(fixture("tiny/adapters/model.safetensors"));
const ADAPTERS = readdirSync(fixture("tiny/adapters"))
  .filter((name) => name !== "model.safetensors" && name !== "golden.safetensors")
  .map((name) => bytesOf(`tiny/adapters/${name}`));
const INFO = { settings: {}, sizes: {}, inputs: {}, weights: {} };
const LATENT = encodeArtifact({ kind: "latents", tensors: { latent: float32([1, 16, 2, 3]) }, info: INFO });
const SAMPLES = encodeArtifact({ kind: "samples", tensors: { latent_tensor: float32([1, 16, 2, 3]) }, info: INFO });
const INDEX = {
  metadata: { total_size: 12 },
  weight_map: { "a.weight": "one.safetensors", "b.weight": "two.safetensors" },
};
const VALID = parseRecipe(recipeText())!;
const SETTINGS = {
  steps: 8,
  lora: ["a:1"],
  size: "64x64",
  "keep-size": true,
  run: { seed: "1", cfg: 1.5 },
  vae: "x",
  vram: "12G",
};
const JOB = {
  images: ["a.jpg"],
  prompt: "x",
  output: "b.png",
  seed: "5",
  size: { width: 64, height: 64 },
  lora: ["a"],
  steps: 4,
};

/** A GGUF file with blocks of two types, and a file of packed weights. */
const GGUF = ggufBytes({
  values: {
    "general.architecture": { text: "qwen_image" },
    "some.list": { i32s: [1, 2, 3] },
    "tokenizer.ggml.tokens": { texts: Array.from({ length: 100 }, (_, index) => `token ${index}`) },
  },
  tensors: {
    "img_in.weight": { shape: [4, 64], type: 8, bytes: new Uint8Array(8 * 34) },
    "txt_in.weight": { shape: [2, 256], type: 12, bytes: new Uint8Array(2 * 144) },
    "norm.weight": { shape: [64], type: 0, bytes: new Uint8Array(256) },
  },
});
const PACKED = encodeSafetensors(
  {
    "a.weight": tensor("uint8", [4, 32], new Uint8Array(128)),
    "a.weight.scales": { ...float32([4, 2]), storedAs: "F16" },
    "b.weight": float32([3]),
  },
  packedMetadata(new Map([["a.weight", { type: "INT4", bits: 4, block: 32, zero: 8 }]])),
);

/** The targets by name. */
export const TARGETS: Readonly<Record<string, Target>> = {
  headers: target(
    files(bytesOf("tiny/vae.safetensors"), bytesOf("tiny/transformer-scaled-fp8.safetensors")),
    async (bytes, folder) => {
      const path = join(folder, "model.safetensors");
      writeFileSync(path, bytes);
      const checkpoint = await openCheckpoint(path);
      checkpointConfig(checkpoint);
      decodeSafetensors(bytes, "it");
      await inspectFile(path);
    },
  ),
  gguf: target(damaged(GGUF), async (bytes, folder) => {
    const path = join(folder, "model.gguf");
    writeFileSync(path, bytes);
    const checkpoint = await openCheckpoint(path);
    checkpointConfig(checkpoint);
    const { tensors } = await repackedTo(join(folder, "repacked.safetensors"), checkpoint);
    for (const stored of tensors.values()) if (stored.packed) await readTensor(stored);
    await inspectFile(path);
  }),
  packed: target(files(PACKED), async (bytes, folder) => {
    const path = join(folder, "packed.safetensors");
    writeFileSync(path, bytes);
    for (const stored of (await openCheckpoint(path)).tensors.values()) if (stored.packed) await readTensor(stored);
    await inspectFile(path);
  }),
  adapters: target(files(...LORAS), async (bytes, folder) => {
    const path = join(folder, "lora.safetensors");
    writeFileSync(path, bytes);
    matchTable(await matchLora(await openLora(path), transformer));
  }),
  kinds: target(files(...ADAPTERS), async (bytes, folder) => {
    const path = join(folder, "adapter.safetensors");
    writeFileSync(path, bytes);
    const match = await matchLora(await openLora(path), layers);
    matchTable(match);
    const graph = new Graph("adapted");
    const w = Weights.of(graph, layers, [{ name: "lora_strength.0", modules: match.matched }]);
    for (const module of match.matched.keys()) {
      const at = w.at(module);
      linear(graph.input(module, "f32", ["tokens", at.shape("weight")[1]!]), at);
    }
  }),
  artifacts: target(
    fc.tuple(fc.constantFrom("latents", "cond", "samples"), files(LATENT, SAMPLES)),
    async ([kind, bytes]) => {
      await decodeArtifact(bytes, { kind: kind as "latents", name: "stdin" });
    },
  ),
  index: target(altered(INDEX), async (text, folder) => {
    const part = join(folder, "transformer");
    mkdirSync(part, { recursive: true });
    writeFileSync(join(part, "diffusion_pytorch_model.safetensors.index.json"), text);
    for (const name of ["one", "two"])
      writeFileSync(join(part, `${name}.safetensors`), bytesOf("tiny/vae.safetensors"));
    await openPart(folder, "transformer");
  }),
  settings: target(fc.oneof(altered(SETTINGS), fc.string({ unit: "binary" })), async (text, folder) => {
    writeFileSync(join(folder, "qedit.json"), text);
    const found = await readSettingsFiles(folder);
    await checkSettingsKeys(found, run.options);
    givenSettings(run.options, { command: "run", parsed: {}, env: {}, files: found });
  }),
  jobs: target(
    fc.oneof(
      fc.array(altered(JOB), { maxLength: 4 }).map((lines) => lines.join("\n")),
      fc.string({ unit: "binary" }),
    ),
    async (text, folder) => {
      for (const { fault } of await readJobs(text, folder)) if (fault) throw fault;
    },
  ),
  recipes: target(fc.oneof(altered(JSON.parse(recipeText())), fc.string()), async (text) => {
    const recipe = parseRecipe(text) ?? toRecipe(text);
    if (recipe === undefined) return;
    inputRoles(recipe);
    recipeLines(recipe);
    makerLine(recipe);
    recipeDifferences(recipe, VALID);
    recipeDifferences(VALID, recipe);
    readSettings(EDIT_PARAMETERS, recipeSettings(recipe, "it.png"));
  }),
  pictures: target(
    fc.oneof(...["images/cat.jpg", "golden-edits/one.png", "images/rocket.jpg"].map((name) => damaged(bytesOf(name)))),
    async (bytes) => {
      pictureTexts(bytes);
      await readSize(bytes, "it");
      await readImage(bytes, "it");
      recipeIn(bytes, "it");
    },
  ),
};

function recipeText(): string {
  return pictureTexts(bytesOf("golden-edits/one.png")).find(({ text }) => text.startsWith("{"))!.text;
}

/** Empties the folder of a case. */
export function clean(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}
