// An adapter file with every kind in turn on the modules of a small transformer.
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { everyKind } from "./full-size.js";

/** Endings of keys whose parts are called otherwise. */
const ENDINGS: Readonly<Record<string, string>> = {
  up: "lora_up.weight",
  down: "lora_down.weight",
  up_bias: "lora_up.bias",
  magnitude: "dora_scale",
};

/** Writes such a file, with numbers of about a twentieth and magnitudes near 1, and gives its path. */
export async function writeEveryKind(path: string, checkpoint: Checkpoint): Promise<string> {
  let seed = 0;
  const tensors = [...everyKind(checkpoint).modules].flatMap(([module, { parts }]) =>
    Object.entries(parts).map(([part, { shape }]) => {
      seed += 1;
      const length = shape.reduce((product, dim) => product * dim, 1);
      const data = Float32Array.from({ length }, (_, i) => Math.sin(seed * 3.7 + i * 1.3) * 0.07);
      const values = part === "magnitude" ? data.map((value) => 1 + value) : data;
      return [`diffusion_model.${module}.${ENDINGS[part] ?? part}`, float32(shape, values)] as const;
    }),
  );
  await writeSafetensors(path, Object.fromEntries(tensors));
  return path;
}
