// Every network, in every stored form, against the reference classes of diffusers and transformers (fixtures/oracle).
import { afterAll, describe, expect, test } from "vitest";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { stripPrefix } from "../../src/checkpoint/published-names.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { Graph } from "../../src/graph/graph.js";
import { latentGrid, patchify, ropeTables, unpatchify } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer, isIdleInLastBlock } from "../../src/models/qwen-image/transformer.js";
import { isIdleInTransformer, transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel, isIdleInTextEncoder, multimodalRope } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "../../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder, isIdleInVae } from "../../src/models/vaes.js";
import { float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import { fixture, type Golden, readGolden } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { expectParity, printParity, TOLERANCE } from "./table.js";

afterAll(printParity);

describe.each(["vae", "vae-fp32", "vae-other"])("VAE of %s", (name) => {
  const sizes = ["40x56", "64x48"];

  test("the encoder gives the reference's mean at two sizes in one session", async () => {
    const checkpoint = await readSafetensors(fixture(`tiny/${name}.safetensors`));
    const golden = await readGolden(name);
    await using network = await openNetwork(checkpoint, {
      build: (graph, w) => buildVaeEncoder(graph, w, { compute: "f32" }),
      optimization: "full",
      taps: { conv1: "encoder.conv1/Conv", middle: "encoder.middle.2/Add" },
    });
    for (const size of sizes) {
      const out = await network.session.run({ image: unit(golden.get(`${size}.pixels`)) });
      const at = (tap: string) => ({ network: "vae encoder", weights: name, tap: `${size} ${tap}` });
      expectParity(at("conv1"), [out["conv1"]!, golden.get(`${size}.encoder.conv1`)], TOLERANCE.network);
      expectParity(at("middle"), [out["middle"]!, golden.get(`${size}.encoder.middle`)], TOLERANCE.network);
      expectParity(at("latent"), [out["latent"]!, golden.get(`${size}.mean`)], TOLERANCE.network);
    }
    expect(
      network.unused.filter((key) => !isIdleInVae(key) && !key.startsWith("decoder.") && !key.startsWith("conv2.")),
    ).toEqual([]);
  });

  test("the decoder gives the reference's picture at two sizes in one session", async () => {
    const checkpoint = await readSafetensors(fixture(`tiny/${name}.safetensors`));
    const golden = await readGolden(name);
    await using network = await openNetwork(checkpoint, {
      build: (graph, w) => buildVaeDecoder(graph, w, { compute: "f32" }),
      optimization: "full",
      taps: { conv1: "decoder.conv1/Conv", middle: "decoder.middle.2/Add", raw: "decoder.head.2/Conv" },
    });
    for (const size of sizes) {
      const out = await network.session.run({ latent: golden.get(`${size}.latent`) });
      const at = (tap: string) => ({ network: "vae decoder", weights: name, tap: `${size} ${tap}` });
      expectParity(at("conv1"), [out["conv1"]!, golden.get(`${size}.decoder.conv1`)], TOLERANCE.network);
      expectParity(at("middle"), [out["middle"]!, golden.get(`${size}.decoder.middle`)], TOLERANCE.network);
      expectParity(at("head"), [out["raw"]!, golden.get(`${size}.image_unclamped`)], TOLERANCE.network);
      expectParity(at("image"), [out["image"]!, unit(golden.get(`${size}.image`))], TOLERANCE.network);
    }
    expect(
      network.unused.filter((key) => !isIdleInVae(key) && !key.startsWith("encoder.") && !key.startsWith("conv1.")),
    ).toEqual([]);
  });
});

// −1..1, as the reference takes pictures, to 0..1.
function unit(pixels: Tensor<"float32">): Tensor<"float32"> {
  return float32(
    pixels.shape,
    pixels.data.map((value) => (value + 1) / 2),
  );
}

const ENCODERS = [
  "text-encoder",
  "text-encoder-comfy-quant",
  "text-encoder-fp8",
  "text-encoder-bf16",
  "text-encoder-fp32",
];

describe.each(ENCODERS)("vision tower of %s", (name) => {
  test("pictures of three sizes give the reference's tokens in one session", async () => {
    const checkpoint = await readSafetensors(fixture(`tiny/${name}.safetensors`));
    const [golden, inputs] = [await readGolden(name), await readGolden("vision-inputs")];
    const config = visionConfig(Weights.of(new Graph("numbers"), checkpoint), checkpointConfig(checkpoint));
    await using network = await openNetwork(checkpoint, {
      build: (graph, w) => buildVisionTower(graph, w, { config, compute: "f32" }),
      optimization: "none",
      taps: { block0: "visual.blocks.0/Add_1" },
    });
    for (const size of ["8x12", "12x20", "10x6"]) {
      const [rows, columns] = size.split("x").map(Number) as [number, number];
      const geometry = visionGeometry({ rows, columns }, config);
      const out = await network.session.run({ pixel_values: inputs.get(`${size}.pixel_values`), ...geometry });
      const at = (tap: string) => ({ network: "vision tower", weights: name, tap: `${size} ${tap}` });
      const block0 = inWindowOrder(out["block0"]! as Tensor<"float32">, geometry.window_mask);
      expectParity(at("block0"), [block0, golden.get(`${size}.vision_block0`)], TOLERANCE.network);
      expectParity(at("image_embeds"), [out["image_embeds"]!, golden.get(`${size}.image_embeds`)], TOLERANCE.network);
    }
    expect(network.unused.filter((key) => key.startsWith("visual."))).toEqual([]);
  });
});

// The reference keeps the patches of a window together, windows in raster order; a window is known by its first patch.
function inWindowOrder(rows: Tensor<"float32">, mask: Tensor<"float32">): Tensor<"float32"> {
  const [count, width] = rows.shape as [number, number];
  const window = (patch: number) => mask.data.subarray(patch * count, (patch + 1) * count).indexOf(0);
  const order = Array.from({ length: count }, (_, patch) => patch).sort((a, b) => window(a) - window(b) || a - b);
  return float32(
    rows.shape,
    Float32Array.from(order.flatMap((patch) => [...rows.data.subarray(patch * width, (patch + 1) * width)])),
  );
}

describe.each([...ENCODERS, "text-encoder-no-vision"])("language model of %s", (name) => {
  test("prompts with and without pictures give the reference's hidden states in one session", async () => {
    const checkpoint = await readSafetensors(fixture(`tiny/${name}.safetensors`));
    const golden = await readGolden(name);
    const config = languageConfig(Weights.of(new Graph("numbers"), checkpoint), checkpointConfig(checkpoint));
    await using network = await openNetwork(checkpoint, {
      build: (graph, w) => buildLanguageModel(graph, w, { config, compute: "f32" }),
      optimization: "none",
      taps: { layer0: "model.layers.0/Add_1" },
    });
    for (const images of ["images0", "images1", "images2", "images3"].filter((each) =>
      golden.names.includes(`${each}.hidden`),
    )) {
      const positions = golden.get(`${images}.position_ids`);
      const length = positions.shape[1]!;
      const rows = [0, 1, 2].map((row) => [...positions.data.subarray(row * length, (row + 1) * length)]);
      const { cos, sin } = multimodalRope(rows, config);
      const out = await network.session.run({
        inputs_embeds: golden.get(`${images}.inputs_embeds`),
        rope_cos: cos,
        rope_sin: sin,
      });
      const at = (tap: string) => ({ network: "language model", weights: name, tap: `${images} ${tap}` });
      const layer0 = golden.get(`${images}.layer0`);
      expectParity(
        at("layer0"),
        [float32(layer0.shape, (out["layer0"]! as Tensor<"float32">).data), layer0],
        TOLERANCE.network,
      );
      expectParity(at("hidden_states"), [out["hidden_states"]!, golden.get(`${images}.hidden`)], TOLERANCE.network);
    }
    expect(network.unused.filter((key) => !key.startsWith("visual.") && !isIdleInTextEncoder(key))).toEqual([]);
  });
});

describe.each(["transformer", "transformer-bf16", "transformer-fp32", "transformer-scaled-fp8", "transformer-2511"])(
  "transformer of %s",
  (name) => {
    test("0, 1 and 2 references and odd grids give the reference's velocity in one session", async () => {
      const checkpoint = stripPrefix(await readSafetensors(fixture(`tiny/${name}.safetensors`)));
      const golden = await readGolden(name);
      await using network = await openTransformer(checkpoint);
      for (const each of ["refs0", "refs1", "refs2", "odd"]) {
        const { feeds, shape } = transformerFeeds(golden, `${each}.`, network.config);
        const out = await network.session.run(feeds);
        const at = (tap: string) => ({ network: "transformer", weights: name, tap: `${each} ${tap}` });
        for (const [tap, wanted] of [
          ["img_in", "img_in"],
          ["txt_in", "txt_in"],
          ["block0.txt", "block0.txt"],
          ["block0.img", "block0.img"],
        ] as const) {
          const reference = golden.get(`${each}.${wanted}`);
          const rest = tap === "block0.img" ? (out["block0.references"]?.data ?? []) : [];
          const found = Float32Array.of(...(out[tap]!.data as Float32Array), ...(rest as Float32Array));
          expectParity(at(tap), [float32(reference.shape, found), reference], TOLERANCE.network);
        }
        const velocity = unpatchify(out["velocity"]! as Tensor<"float32">, shape, network.config);
        expectParity(at("velocity"), [velocity, golden.get(`${each}.velocity`)], TOLERANCE.network);
      }
      expect(
        network.unused.filter((key) => !isIdleInTransformer(key) && !isIdleInLastBlock(key, network.config)),
      ).toEqual([]);
    });
  },
);

const LORA_FORMS = [
  "published",
  "alpha-bf16",
  "alpha-i64",
  "transformer-prefix",
  "diffusion-model-prefix",
  "lora-unet",
  "lycoris",
  "lora-a-b",
  "lora-a-b-default",
  "underscore-lora-up",
  "dot-lora-up",
  "lora-linear-layer",
  "bare-lora-b",
];

describe("LoRA on the transformer", () => {
  const tolerance = TOLERANCE.network;

  test.each(LORA_FORMS)("the layout of %s gives the merged reference's velocity", async (form) => {
    const place = { network: "transformer + lora", weights: form };
    const [full, part] = await loraVelocities([[form, [1, 0.6]]]);
    const golden = await readGolden("loras");
    expectParity({ ...place, tap: "strength 1" }, [full!, golden.get("first.velocity")], tolerance);
    expectParity({ ...place, tap: "strength 0.6" }, [part!, golden.get("first_0.6.velocity")], tolerance);
  });

  test("two at once add up, and strength 0 is none, in one session", async () => {
    const [both, second, none] = await loraVelocities([
      ["published", [1, 0, 0]],
      ["second", [1, 1, 0]],
    ]);
    const golden = await readGolden("loras");
    const place = { network: "transformer + lora", weights: "published + second" };
    expectParity({ ...place, tap: "both" }, [both!, golden.get("both.velocity")], tolerance);
    expectParity({ ...place, tap: "second only" }, [second!, golden.get("second.velocity")], tolerance);
    expectParity({ ...place, tap: "neither" }, [none!, golden.get("none.velocity")], tolerance);
  });
});

async function loraVelocities(loras: readonly (readonly [string, readonly number[]])[]): Promise<Tensor<"float32">[]> {
  const checkpoint = await readSafetensors(fixture("tiny/transformer.safetensors"));
  const golden = await readGolden("loras");
  const adapters = await Promise.all(
    loras.map(async ([file], index) => {
      const match = await matchLora(await readSafetensors(fixture(`tiny/loras/${file}.safetensors`)), checkpoint);
      expect(match.unmatched).toEqual([]);
      return { name: `lora_strength.${index}`, modules: match.matched };
    }),
  );
  await using network = await openTransformer(checkpoint, adapters);
  const { feeds, shape } = transformerFeeds(golden, "", network.config);
  const results = [];
  for (let run = 0; run < loras[0]![1].length; run += 1) {
    const strengths = Object.fromEntries(
      loras.map(([, values], index) => [`lora_strength.${index}`, float32([1], Float32Array.of(values[run]!))]),
    );
    const out = await network.session.run({ ...feeds, ...strengths });
    results.push(unpatchify(out["velocity"]! as Tensor<"float32">, shape, network.config));
  }
  return results;
}

type TransformerCheckpoint = Parameters<typeof openNetwork>[0];

async function openTransformer(
  checkpoint: TransformerCheckpoint,
  adapters: NonNullable<Parameters<typeof openNetwork>[1]["adapters"]> = [],
) {
  const config = transformerConfig(Weights.of(new Graph("numbers"), checkpoint), checkpointConfig(checkpoint));
  // Where references are modulated apart, each of the two residuals of image tokens is two sums.
  const residuals = config.referencesAtZero
    ? { "block0.txt": "Add_3", "block0.img": "Add_4", "block0.references": "Add_5" }
    : { "block0.txt": "Add_2", "block0.img": "Add_3" };
  const taps = {
    img_in: "img_in/Gemm",
    txt_in: "txt_in/Gemm",
    ...Object.fromEntries(Object.entries(residuals).map(([tap, name]) => [tap, `transformer_blocks.0/${name}`])),
  };
  const network = await openNetwork(checkpoint, {
    build: (graph, w) => buildTransformer(graph, w, { config, compute: "f32" }),
    optimization: "none",
    adapters,
    taps,
  });
  return { ...network, config };
}

function transformerFeeds(
  golden: Golden,
  prefix: string,
  config: ReturnType<typeof transformerConfig>,
): { feeds: Tensors; shape: readonly number[] } {
  const latent = golden.get(`${prefix}latent`);
  const references = golden.names
    .filter((key) => key.startsWith(`${prefix}reference_`))
    .sort()
    .map((key) => golden.get(key));
  const prompt = golden.get(`${prefix}prompt_embeds`);
  const grids = [latent, ...references].map((each) => latentGrid(each, config.patchSize));
  const { cos, sin } = ropeTables(prompt.shape[1]!, grids as [(typeof grids)[0] & {}, ...typeof grids], config);
  const feeds = {
    latent_tokens: patchify([latent], config),
    reference_tokens: patchify(references, config),
    prompt_embeds: prompt,
    timestep: golden.get(`${prefix}timestep`),
    rope_cos: cos,
    rope_sin: sin,
  };
  return { feeds, shape: latent.shape };
}
