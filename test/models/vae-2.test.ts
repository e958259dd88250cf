// The VAE of Qwen-Image-2.1 against diffusers' own (fixtures/oracle/qwen_image_2/vae.py): in the published form, and under diffusers' names.
import { afterAll, describe, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openPart } from "../../src/checkpoint/open.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { buildVaeDecoder, buildVaeEncoder, isIdleInVae, vaeConfig, vaeStatistics } from "../../src/models/vaes.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withVae } from "../../src/stages/networks/open-vae.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { expectParity, scaledError, TOLERANCE } from "../parity/table.js";
import { fixture, readGolden } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
afterAll(() => engine.dispose());

const SIZES = ["64x32", "32x96"];

describe.each(["vae", "vae-other"])("%s", (name) => {
  const open = () => openPart(fixture(`tiny-2/${name}.safetensors`), "vae");
  const at = (network: string, tap: string) => ({ network: `vae of 2.1, ${network}`, weights: name, tap });

  test("the encoder gives the reference's mean at two sizes in one session", async () => {
    const golden = await readGolden(name, "tiny-2");
    await using network = await openNetwork(await open(), {
      build: (graph, w) => buildVaeEncoder(graph, w),
      optimization: "full",
      taps: { level: "encoder.downsamples.1/Add", middle: "encoder.middle.2/Add" },
    });
    for (const size of SIZES) {
      const out = await network.session.run({ image: unit(golden.get(`${size}.pixels`)) });
      expectParity(
        at("encoder", `${size} level`),
        [out["level"]!, golden.get(`${size}.encoder.second_level`)],
        TOLERANCE.network,
      );
      expectParity(
        at("encoder", `${size} middle`),
        [out["middle"]!, golden.get(`${size}.encoder.middle`)],
        TOLERANCE.network,
      );
      expectParity(at("encoder", `${size} latent`), [out["latent"]!, golden.get(`${size}.mean`)], TOLERANCE.network);
    }
    expect(network.unused.filter((key) => !isIdleInVae(key) && !/^(decoder|conv2)\./.test(key))).toEqual([]);
  });

  test("the decoder gives the reference's picture with its alpha at two sizes in one session", async () => {
    const golden = await readGolden(name, "tiny-2");
    await using network = await openNetwork(await open(), {
      build: (graph, w) => buildVaeDecoder(graph, w),
      optimization: "full",
      taps: { middle: "decoder.middle.2/Add", level: "decoder.upsamples.0/Add", raw: "decoder.head.2/Conv" },
    });
    for (const size of SIZES) {
      const out = await network.session.run({ latent: golden.get(`${size}.latent`) });
      expectParity(
        at("decoder", `${size} middle`),
        [out["middle"]!, golden.get(`${size}.decoder.middle`)],
        TOLERANCE.network,
      );
      expectParity(
        at("decoder", `${size} level`),
        [out["level"]!, golden.get(`${size}.decoder.first_level`)],
        TOLERANCE.network,
      );
      expectParity(
        at("decoder", `${size} head`),
        [out["raw"]!, golden.get(`${size}.image_unclamped`)],
        TOLERANCE.network,
      );
      expectParity(
        at("decoder", `${size} image`),
        [out["image"]!, unit(golden.get(`${size}.image`))],
        TOLERANCE.network,
      );
    }
    expect(network.unused.filter((key) => !isIdleInVae(key) && !/^(encoder|conv1)\./.test(key))).toEqual([]);
  });

  test("on tiles it gives what it gives on the whole picture", async () => {
    const file = await openModel(fixture(`tiny-2/${name}.safetensors`), "vae");
    const context = { engine, emit: () => {}, signal: new AbortController().signal };
    const [height, width] = [544, 288];
    const values = (shape: number[]) =>
      float32(
        shape,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.abs(Math.sin(i * i * 0.37 + i))),
      );
    for (const [half, input] of [
      ["encoder", values([1, 4, height, width])],
      ["decoder", values([1, 8, height / 16, width / 16])],
    ] as const) {
      const run = (tile: number | undefined) =>
        withVae(half, { run: { file, compute: "f32", tile }, pixels: [height, width] }, context, (vae) => vae(input));
      const [whole, tiled] = [await run(undefined), await run(128)];
      expect(tiled.shape).toEqual(whole.shape);
      expect(scaledError(tiled.data, whole.data), half).toBeLessThan(1e-5);
    }
  });
});

test("what is read of a file: channels, the size of a cell, and statistics of its config", async () => {
  const { checkpoint, config } = await openModel(fixture("tiny-2/vae.safetensors"), "vae");
  expect(vaeConfig(numbersOf(checkpoint))).toEqual({ latentChannels: 8, imageChannels: 4, spatialRatio: 16 });
  expect(vaeStatistics(numbersOf(checkpoint), config)).toEqual({
    mean: [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4],
    std: [0.8, 0.95, 1.1, 1.25, 1.4, 1.55, 1.7, 1.85],
  });
  expect(() => vaeStatistics(numbersOf(checkpoint), {})).toThrow(/latents of 8 channels: there are 64 means/);
});

describe("a file whose shortcuts cannot be told is refused", () => {
  const changed = async (change: (name: string) => boolean): Promise<Checkpoint> => {
    const checkpoint = await openPart(fixture("tiny-2/vae.safetensors"), "vae");
    return { ...checkpoint, tensors: new Map([...checkpoint.tensors].filter(([name]) => change(name))) };
  };

  test.each([
    [
      "without any time_conv",
      (name: string) => !name.includes("time_conv"),
      /there for 0 levels of the encoder and 0 of/,
    ],
    [
      "without that of one level",
      (name: string) => !name.startsWith("encoder.downsamples.1.downsamples.2.time_conv"),
      /there for 2 levels of the encoder and 3 of the decoder/,
    ],
  ])("%s", async (_, keeps, message) => {
    const checkpoint = await changed(keeps);
    expect(() => vaeConfig(numbersOf(checkpoint))).toThrow(message);
  });
});

// −1..1, as the reference takes pictures, to 0..1.
function unit(pixels: Tensor<"float32">): Tensor<"float32"> {
  return float32(
    pixels.shape,
    pixels.data.map((value) => (value + 1) / 2),
  );
}
