// Runs of the tiny transformers of Qwen-Image-2.1, and what diffusers made of them (fixtures/oracle/qwen_image_2/transformer.py).
import { transformerOf } from "../../src/models/transformers.js";
import { type ModelHandle, numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import type { Conditions } from "../../src/stages/networks/velocity.js";
import { fixture, type Golden, readGolden } from "./golden.js";

/** The cases of the fixtures, by their numbers of references. */
export const CASES = ["refs0", "refs1", "refs2", "refs3", "refs10"] as const;

/** A tiny transformer, and its golden file. */
export async function tinyTransformer(name: string): Promise<{ file: ModelHandle; golden: Golden }> {
  const file = await openModel(fixture(`tiny-2/${name}.safetensors`), "transformer");
  return { file, golden: await readGolden(`../../tiny-2/golden/${name}`) };
}

/** The conditions of a case; the negative prompt, if wanted, is the prompt of another case with as many references. */
export function conditionsOf({ file, golden }: { file: ModelHandle; golden: Golden }, name: string): Conditions {
  const has = (key: string) => golden.names.includes(`${name}.${key}`);
  const references = [];
  while (has(`reference_${references.length}`)) references.push(golden.get(`${name}.reference_${references.length}`));
  const imagePositions = has("image_positions") ? [...golden.get(`${name}.image_positions`).data] : [];
  return {
    shape: golden.get(`${name}.latent`).shape,
    references,
    prompts: { positive: { embeds: golden.get(`${name}.prompt_embeds`), imagePositions }, negative: undefined },
    network: transformerOf(numbersOf(file.checkpoint), file.config),
  };
}
