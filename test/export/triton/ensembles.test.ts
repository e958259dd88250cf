import { expect, test } from "vitest";
import { ensembleOf } from "../../../src/export/triton/ensembles.js";
import type { TensorSpec } from "../../../src/export/triton/exported-model.js";

const spec = (name: string, datatype: TensorSpec["datatype"], dims: readonly number[]): TensorSpec => ({
  ...{ name, datatype, dims },
  summary: "",
});
const latent = [1, 16, -1, -1];
const ids = spec("input_ids", "INT64", [1, -1]);
const pixels = [spec("pixel_values", "FP32", [-1, 1176]), spec("image_grid_thw", "INT64", [-1, 3])];
const embeds = (name: string) => spec(name, "FP32", [1, -1, 3584]);
const joins = [1, 2, 3].map((count) => {
  const inputs = Array.from({ length: count }, (_, index) => spec(`latent_${index + 1}`, "FP32", latent));
  const outputs = [spec("reference_tokens", "FP32", [1, -1, 64]), spec("reference_sizes", "INT64", [-1, 2])];
  return [`join_${count}`, { inputs, outputs }] as const;
});
const sampled = [
  ...[spec("noise", "FP32", latent), spec("reference_tokens", "FP32", [1, -1, 64])],
  ...[spec("reference_sizes", "INT64", [-1, 2]), embeds("prompt_embeds"), spec("sigmas", "FP32", [-1])],
];
const MODELS = new Map([
  ["encode_image", { inputs: [spec("image", "UINT8", [-1, -1, 3])], outputs: [spec("latent", "FP32", latent)] }],
  ["encode_prompt", { inputs: [ids, ...pixels], outputs: [embeds("prompt_embeds")] }],
  ...joins,
  ["sample", { inputs: sampled, outputs: [spec("latents", "FP32", latent)] }],
  [
    "sample_cfg",
    {
      inputs: [...sampled, embeds("negative_prompt_embeds"), spec("cfg", "FP32", [1])],
      outputs: [spec("latents", "FP32", latent)],
    },
  ],
  ["decode", { inputs: [spec("latents", "FP32", latent)], outputs: [spec("image", "UINT8", [-1, -1, 3])] }],
]);
const namesOf = (specs: readonly TensorSpec[]) => specs.map(({ name }) => name);

test.each([1, 2, 3])(
  "the edit of %i pictures takes them, the prompt's tokens, noise and levels, and gives a picture",
  (images) => {
    const { name, inputs, outputs } = ensembleOf({ images, hasCfg: false }, MODELS);
    const pictures = Array.from({ length: images }, (_, index) => `image_${index + 1}`);
    expect(name).toBe(`qedit_${images}`);
    expect(namesOf(inputs)).toEqual([...pictures, "input_ids", "pixel_values", "image_grid_thw", "noise", "sigmas"]);
    expect(outputs).toEqual([spec("image", "UINT8", [-1, -1, 3])]);
  },
);

test("the edit with guidance takes the tokens of a negative prompt and the scale too", () => {
  const { name, inputs, steps } = ensembleOf({ images: 2, hasCfg: true }, MODELS);
  expect(name).toBe("qedit_2_cfg");
  expect(namesOf(inputs)).toContain("negative_input_ids");
  expect(namesOf(inputs)).toContain("cfg");
  expect(steps.filter(({ model_name }) => model_name === "encode_prompt")).toHaveLength(2);
});
