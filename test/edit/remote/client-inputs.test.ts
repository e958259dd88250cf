// The tensors that a client makes, against what the stages of qedit feed to their networks.
import { afterAll, describe, expect, test } from "vitest";
import { clientInputs, clientNumbers } from "../../../src/edit/remote/client-inputs.js";
import { parseDevice } from "../../../src/engine/providers.js";
import type { Engine } from "../../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../../src/engine/sessions/paired.js";
import { decode } from "../../../src/stages/decode.js";
import { encodeImage } from "../../../src/stages/encode-image.js";
import { encodePrompt } from "../../../src/stages/encode-prompt.js";
import { readPictures } from "../../../src/stages/pictures.js";
import { sample, samplingOf } from "../../../src/stages/sample.js";
import type { Tensors } from "../../../src/std/tensor.js";
import { loadTokenizer } from "../../../src/text/tokenizer.js";
import { tinyEdit } from "../../support/edits.js";
import { fixture } from "../../support/golden.js";

const engine = pairedEngine(parseDevice("cpu", 1));
afterAll(() => engine.dispose());

/** An engine that keeps the feeds of each run, by the network's id. */
function recording(feeds: Map<string, Tensors[]>): Engine {
  return {
    ...engine,
    device: engine.device,
    async open(model) {
      const session = await engine.open(model);
      return {
        ...session,
        dispose: () => session.dispose(),
        run(given) {
          feeds.set(model.network, [...(feeds.get(model.network) ?? []), given as Tensors]);
          return session.run(given);
        },
      };
    },
    dispose: async () => {},
  };
}

const PICTURES = await readPictures(["images/cat.jpg", "images/rocket.jpg"].map(fixture));

/** The inputs of an edit, and what the networks of qedit were fed for it. */
async function made(settings: { readonly prompt: string; readonly negative?: string }) {
  const { prompt, negative } = settings;
  const cfg = negative === undefined ? 1 : 2.5;
  const written = { prompt, cfg, ...(negative !== undefined && { negative_prompt: negative }) };
  const { resolved } = await tinyEdit({ pictures: PICTURES, settings: written });
  const feeds = new Map<string, Tensors[]>();
  const context = { engine: recording(feeds), emit: () => {}, signal: new AbortController().signal };
  const call = { models: resolved.models, settings: resolved.settings };
  const latents = await encodeImage.run({ ...call, inputs: { pictures: PICTURES } }, context);
  const cond = await encodePrompt.run({ ...call, inputs: { pictures: PICTURES } }, context);
  const samples = await sample.run({ ...call, inputs: { latents, cond } }, context);
  await decode.run({ ...call, inputs: { samples } }, context);
  const { negativePrompt } = resolved.settings;
  const sampling = samplingOf(resolved.settings);
  const edit = { pictures: PICTURES, prompt, negativePrompt, sizes: resolved.settings, sampling };
  return { inputs: clientInputs(edit, clientNumbers(resolved.models), await loadTokenizer()), feeds, samples };
}

describe("the inputs of an edit of two pictures", async () => {
  const { inputs, feeds } = await made({ prompt: "make it winter", negative: "blurry" });

  test("pictures have the bytes that the VAE is fed as floats", () => {
    const planes = feeds.get("vae-encoder")!.map(({ image }) => image!);
    expect(planes).toHaveLength(2);
    for (const [index, { shape, data }] of planes.entries()) {
      const image = inputs[`image_${index + 1}`]!;
      const [height, width] = shape.slice(2) as [number, number];
      expect(image.shape).toEqual([height, width, 3]);
      const area = height * width;
      const wrong = [...(image.data as Uint8Array)].findIndex(
        (byte, at) => Math.fround(byte / 255) !== data[(at % 3) * area + Math.floor(at / 3)],
      );
      expect(wrong).toBe(-1);
    }
  });

  test("patches are those of the vision tower, one picture after the other", () => {
    const rows = feeds
      .get("vision-tower")!
      .flatMap(({ pixel_values: { data } = inputs["sigmas"]! }) => [...(data as Float32Array)]);
    expect([...(inputs["pixel_values"]!.data as Float32Array)]).toEqual(rows);
    expect(inputs["image_grid_thw"]!.shape).toEqual([2, 3]);
  });

  test("both prompts have as many tokens as the language model reads", () => {
    const lengths = feeds.get("language-model")!.map(({ inputs_embeds: embeds }) => embeds!.shape[1]);
    expect([inputs["input_ids"]!.shape[1], inputs["negative_input_ids"]!.shape[1]]).toEqual(lengths);
  });

  test("noise and levels are those of the first steps", () => {
    const runs = feeds.get("transformer")!;
    const levels = [...new Set(runs.map(({ timestep }) => timestep!.data[0]))];
    expect([...(inputs["sigmas"]!.data as Float32Array)]).toEqual([...levels, 0]);
    const tokens = [...(runs[0]!["latent_tokens"]!.data as Float32Array)].sort();
    expect([...(inputs["noise"]!.data as Float32Array)].sort()).toEqual(tokens);
  });

  test("the scale is that of the edit", () => {
    expect([...(inputs["cfg"]!.data as Float32Array)]).toEqual([2.5]);
  });
});
