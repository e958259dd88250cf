// The tiny models of Qwen-Image-2.1's families, fixtures/tiny-2.
import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type WritableTensor, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { fixture } from "./golden.js";

/** Rows of the published table of token embeddings. */
const VOCABULARY = 151_936;

/** Token embeddings [vocabulary, width] of fixtures/oracle/qwen_image_2/text_encoder.py (embedding_rows), which stores none. */
function embeddingRows(width: number): WritableTensor {
  const data = new Float32Array(VOCABULARY * width);
  for (let row = 0; row < VOCABULARY; row += 1)
    for (let column = 0; column < width; column += 1)
      data[row * width + column] = (((31 * row + 17 * column ** 2 + 7) % 251) - 125) / 64;
  return { ...float32([VOCABULARY, width], data), storedAs: "BF16" };
}

/** How a copy of the tiny text encoder is written. */
export interface TinyTextEncoder {
  readonly folder?: string;
  /** Other names of its tensors. */
  readonly rename?: (name: string) => string;
  /** Whether a tensor is left out. */
  readonly without?: (name: string) => boolean;
  readonly storedAs?: WritableTensor["storedAs"];
  /** Another configuration. */
  readonly config?: (text: string) => string;
}

/** Writes the tiny Qwen3-VL text encoder with its table of token embeddings, and gives the path. */
export async function tinyTextEncoder2({
  folder,
  rename = (name) => name,
  without = () => false,
  storedAs,
  config = (text) => text,
}: TinyTextEncoder = {}): Promise<string> {
  const { tensors, metadata } = await readSafetensors(fixture("tiny-2/text-encoder.safetensors"));
  const written: Record<string, WritableTensor> = {
    [rename("model.language_model.embed_tokens.weight")]: embeddingRows(32),
  };
  for (const [name, stored] of tensors) {
    if (without(name)) continue;
    const values = float32(stored.shape, await readTensor(stored));
    written[rename(name)] = storedAs === undefined ? values : { ...values, storedAs };
  }
  const path = join(folder ?? (await mkdtemp(join(tmpdir(), "qedit-tiny-2-"))), "tiny_qwen3vl.safetensors");
  await writeSafetensors(path, written, { ...metadata, config: config(metadata["config"]!) });
  return path;
}

/**
 * Writes the tiny models as the model "small" of a catalogue that has the published ones too, with the numbers of Qwen-Image-2.1 but for two steps.
 * Gives the environment in which it is found.
 */
export async function smallModel(folder: string): Promise<Readonly<Record<"QEDIT_CATALOG" | "QEDIT_MODELS", string>>> {
  const models = join(folder, "models");
  const files = {
    vae: join(models, "vae/small-vae.safetensors"),
    textEncoder: join(models, "text_encoders/small-text-encoder.safetensors"),
    transformer: join(models, "diffusion_models/small-transformer.safetensors"),
  };
  for (const path of Object.values(files)) mkdirSync(dirname(path), { recursive: true });
  copyFileSync(fixture("tiny-2/vae.safetensors"), files.vae);
  copyFileSync(fixture("tiny-2/transformer.safetensors"), files.transformer);
  renameSync(await tinyTextEncoder2({ folder }), files.textEncoder);
  const catalogue = JSON.parse(readFileSync("models.json", "utf8")) as {
    models: Record<string, { files: Record<string, unknown>; defaults: object }>;
  };
  const published = catalogue.models["qwen-image-2.1"]!;
  const written = Object.entries(files).map(([role, path]) => {
    const file = basename(path);
    const facts = { file, bytes: statSync(path).size, licence: "Apache-2.0" };
    return [role, { ...facts, repository: "no/where", path: file, revision: "main" }];
  });
  catalogue.models["small"] = {
    ...published,
    files: Object.fromEntries(written),
    defaults: { ...published.defaults, steps: 2 },
  };
  const path = join(folder, "catalogue.json");
  writeFileSync(path, JSON.stringify(catalogue));
  return { QEDIT_CATALOG: path, QEDIT_MODELS: models };
}
