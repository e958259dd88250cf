// The sample stage over Qwen-Image-2.1: what it makes of given noise, and what it refuses.
import { writeFile } from "node:fs/promises";
import { afterAll, expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import { encodeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { openMatchedLora } from "../../src/stages/networks/loras.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { sampleGivenNoise } from "../../src/stages/sample-noise.js";
import { float32, type Tensor, tensor } from "../../src/std/tensor.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { CASES, conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const folder = temporaryFolder();
const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => engine.dispose());
const context = { engine, emit: () => {}, signal: new AbortController().signal };

const model = await tinyTransformer("transformer");
const SIGMAS = Float32Array.of(1, 0.8, 0.5, 0.2, 0);
const SETTINGS = { cfg: 1, cfgNorm: "none", dtype: "f32" } as const;

type Tensors = Record<string, Tensor>;

/** The artifacts of a case, as the stages before make them, with other tensors in place of their own. */
function inputsOf(name: string, changed: { latents?: Tensors; cond?: Tensors } = {}) {
  const { shape, references, prompts } = conditionsOf(model, name);
  const places = Int32Array.from(prompts.positive.imagePositions!);
  const channels = shape[1]!;
  const settings = { latent_statistics: { mean: new Array(channels).fill(0), std: new Array(channels).fill(1) } };
  const latents = {
    latent: float32(shape),
    ...Object.fromEntries(references.map((each, index) => [`reference_latents.${index}`, each])),
    ...changed.latents,
  };
  const cond = {
    prompt_embeds: prompts.positive.embeds,
    image_positions: tensor("int32", [places.length], places),
    ...changed.cond,
  };
  const artifact = (kind: "latents" | "cond", tensors: Tensors, own: object): Artifact => ({
    kind,
    tensors: tensors as Artifact["tensors"],
    info: { settings: { ...own }, sizes: {}, inputs: {}, weights: {} },
  });
  return {
    latents: artifact("latents", latents, settings),
    cond: artifact("cond", cond, {}),
    noise: model.golden.get(`${name}.latent`),
    sigmas: SIGMAS,
  };
}

function sampled(inputs: ReturnType<typeof inputsOf>, { transformer = model.file, settings = {} } = {}) {
  return sampleGivenNoise.run(
    { inputs, models: { transformer, loras: [] }, settings: { ...SETTINGS, ...settings } },
    context,
  );
}

test("four steps of Euler's method give the reference's latent without references and with 1, 2, 3 and 10", async () => {
  for (const name of CASES) {
    const { tensors } = await sampled(inputsOf(name));
    const wanted = model.golden.get(`${name}.sampled`);
    expect(tensors["latent_tensor"]!.shape).toEqual(wanted.shape);
    expect(scaledError(tensors["latent_tensor"]!.data as Float32Array, wanted.data), name).toBeLessThanOrEqual(
      TOLERANCE.edit,
    );
  }
});

const embeds = (tokens: number, width: number) => float32([1, tokens, width]);
const positions = (...places: number[]) => tensor("int32", [places.length], Int32Array.from(places));

test.each([
  [
    "a prompt of another family",
    { cond: { image_positions: undefined as never } },
    /it has no image_positions, .* is of Qwen-Image-2\.1/,
  ],
  ["a prompt of another width", { cond: { prompt_embeds: embeds(7, 20) } }, /they are 20 wide, .* takes 32/],
  [
    "a prompt of other pictures",
    { cond: { image_positions: positions(1, 2) } },
    /encoded with 2 pictures, the latents are of 1 picture$/,
  ],
  [
    "places beyond the prompt",
    { cond: { image_positions: positions(8) } },
    /image_positions \[8\] are no rising places among 7 tokens/,
  ],
  ["latents of other channels", { latents: { latent: float32([1, 16, 6, 4]) } }, /they have 16 channels, .* takes 8/],
  [
    "references with odd sides",
    { latents: { "reference_latents.0": float32([1, 8, 3, 2]) } },
    /latents of 3 × 2 cells/,
  ],
])("%s are refused by name", async (_, changed, message) => {
  await expect(sampled(inputsOf("refs1", changed))).rejects.toMatchObject({
    code: "QEDIT_E_ARTIFACT",
    message: expect.stringMatching(message),
  });
});

test("a prompt that places pictures is refused by a transformer of Qwen-Image", async () => {
  const transformer = await openModel(fixture("tiny/transformer.safetensors"), "transformer");
  const latents = { latent: float32([1, 16, 4, 4]), "reference_latents.0": float32([1, 16, 4, 4]) };
  const inputs = inputsOf("refs1", { latents, cond: { prompt_embeds: embeds(7, 16) } });
  await expect(sampled(inputs, { transformer })).rejects.toThrow(/it has image_positions, .* is of Qwen-Image$/);
});

test.each([
  ["transformer", ["img_mlp.gate_up", 384], /adapts "transformer_blocks\.0\.img_mlp\.gate_up", which the model has as/],
  [
    "transformer-fused-bf16",
    ["img_mlp.proj", 192],
    /adapts "transformer_blocks\.0\.img_mlp\.proj", which the model has as/,
  ],
] as const)(
  "a LoRA of %s's feed-forward in its other form is refused by name",
  async (name, [module, rows], message) => {
    const { file } = await tinyTransformer(name);
    const place = `transformer_blocks.0.${module}`;
    const path = folder.at(`${name}-lora.safetensors`);
    const tensors = {
      [`${place}.lora_A.weight`]: float32([2, 64]),
      [`${place}.lora_B.weight`]: float32([rows, 2]),
      "transformer_blocks.0.attn.to_q.lora_A.weight": float32([2, 64]),
      "transformer_blocks.0.attn.to_q.lora_B.weight": float32([64, 2]),
    };
    await writeFile(path, encodeSafetensors(tensors));
    await expect(openMatchedLora(path, file.checkpoint)).rejects.toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(message),
    });
  },
);

test("a way to place references is refused: this family has one", async () => {
  const run = sampled(inputsOf("refs1"), { settings: { referenceMethod: "index" } });
  await expect(run).rejects.toMatchObject({ code: "QEDIT_E_USAGE", message: expect.stringContaining("has one way") });
});
