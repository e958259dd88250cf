// Fixtures and what the reference implementations made of them.
import { fileURLToPath } from "node:url";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { float32, type Tensor } from "../../src/std/tensor.js";

/** For `node --import`: what lets a process run src as it is. */
export const RUN_TYPESCRIPT = fileURLToPath(new URL("run-typescript.mjs", import.meta.url));

/** Absolute path of a file below fixtures/. */
export function fixture(path: string): string {
  return fileURLToPath(new URL(`../../fixtures/${path}`, import.meta.url));
}

/** A golden file of fixtures/tiny/golden, or of another folder: its tensors as float32, by name. */
export interface Golden {
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Throws when there is none of that name. */
  get(name: string): Tensor<"float32">;
}

/** Reads a golden file whole: one of fixtures/tiny, or of another folder of fixtures. */
export async function readGolden(name: string, folder = "tiny"): Promise<Golden> {
  const checkpoint = await readSafetensors(fixture(`${folder}/golden/${name}.safetensors`));
  const tensors = new Map<string, Tensor<"float32">>();
  for (const [key, stored] of checkpoint.tensors) tensors.set(key, float32(stored.shape, await readTensor(stored)));
  return {
    names: [...tensors.keys()],
    metadata: checkpoint.metadata,
    get(key) {
      const tensor = tensors.get(key);
      if (!tensor) throw new Error(`no tensor "${key}" in golden ${name}`);
      return tensor;
    },
  };
}
