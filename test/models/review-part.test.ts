// Model files that cannot be run, or not wholly: each is refused by its name, and what nothing reads is named.
import { cp } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { refuseImplausibleWeights } from "../../src/checkpoint/magnitudes.js";
import { openPart } from "../../src/checkpoint/open.js";
import { packedFormat } from "../../src/checkpoint/packed-formats.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { reviewPart } from "../../src/models/review-part.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { type Quantising, type RawTensor, raw, rawTensors, requantised, writeRaw } from "../support/quantised.js";

const folder = temporaryFolder();
const ALL = Number.POSITIVE_INFINITY;
let files = 0;

const PARTS: Readonly<Record<ModelPart, string>> = {
  vae: fixture("tiny/vae.safetensors"),
  text_encoder: fixture("tiny/text-encoder-fp32.safetensors"),
  transformer: fixture("tiny/transformer-fp32.safetensors"),
};
const EMBEDDED: Readonly<Record<ModelPart, string>> = {
  vae: fixture("tiny-model/tiny_vae.safetensors"),
  text_encoder: fixture("tiny-model/tiny_text_encoder_fp8_scaled.safetensors"),
  transformer: fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors"),
};

type Change = (tensors: Record<string, RawTensor>, checkpoint: Checkpoint) => Promise<void> | void;

/** A part of a model as a file of its own, with something changed. */
async function changed(file: string, part: ModelPart, change: Change): Promise<Checkpoint> {
  const checkpoint = await readSafetensors(file);
  const tensors = await rawTensors(checkpoint);
  await change(tensors, checkpoint);
  return openPart(await writeRaw(folder.at(`${files++}.safetensors`), tensors, checkpoint.metadata), part);
}

const extra = (name: string, dtype: RawTensor["dtype"] = "F32", shape: readonly number[] = [2]): Change => {
  const elements = shape.reduce((count, dim) => count * dim, 1);
  return (tensors) => {
    tensors[name] = { dtype, shape, bytes: new Uint8Array(elements * (dtype === "F32" ? 4 : 1)) };
  };
};

test("a scale that is lost is missed, also where the weight alone would pass for one", async () => {
  const name = "model.layers.0.mlp.down_proj";
  const file = fixture("tiny-model/tiny_text_encoder_fp8_scaled.safetensors");
  const checkpoint = await changed(file, "text_encoder", (tensors) => void delete tensors[`${name}.scale_weight`]);
  expect(() => reviewPart(checkpoint, "text_encoder")).toThrowError(
    new RegExp(`text encoder: "${name}\\.weight" lacks the scale that other blocks have$`),
  );
});

describe.each(Object.entries(PARTS) as [ModelPart, string][])("of a %s", (part, file) => {
  test("all is read, also of the embedded model", async () => {
    for (const each of [file, EMBEDDED[part]]) {
      const checkpoint = await openPart(each, part);
      expect(reviewPart(checkpoint, part)).toEqual({ unread: [], warning: undefined });
      await refuseImplausibleWeights(checkpoint);
    }
  });

  test("an unread tensor is named; beside 8-bit weights it is refused", async () => {
    const name = { vae: "conv1.secret", text_encoder: "model.norm.secret", transformer: "img_in.secret" }[part];
    expect(reviewPart(await changed(file, part, extra(name)), part)).toMatchObject({
      unread: [name],
      warning: expect.stringContaining(`"${name}"`),
    });
    const beside = changed(EMBEDDED[part], part, async (tensors, checkpoint) => {
      // The other two have 8-bit weights by themselves.
      if (part === "vae")
        Object.assign(tensors, await requantised(checkpoint, { spelling: ".weight_scale", block: [1, ALL] }));
      await extra(name)(tensors, checkpoint);
    });
    await expect(beside.then((each) => reviewPart(each, part))).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringMatching(/nothing reads "\S+secret", and beside 8-bit weights that may be a scale/),
      hint: expect.stringContaining("qedit models pull"),
    });
  });

  test.each([
    ["weight_qscale", /nothing reads "/],
    ["weight_zero_point", /nothing reads "/],
    ["pre_quant_scale", /nothing reads "/],
  ])("a scale called %s, which nobody reads, is refused", async (name, message) => {
    const checkpoint = await changed(file, part, async (tensors, original) => {
      Object.assign(tensors, await requantised(original, { spelling: `.${name}`, block: [ALL, ALL] }));
    });
    expect(() => reviewPart(checkpoint, part)).toThrow(message);
  });

  test.each<[string, Quantising, RegExp]>([
    ["one number", { spelling: ".scale_weight", block: [ALL, ALL] }, /"\S+scale_weight" is not one/],
    ["a number a row", { spelling: ".weight_scale_inv", block: [1, ALL] }, /"\S+weight_scale_inv" is not one/],
    ["integers", { spelling: ".weight_scale", block: [1, ALL], dtype: "I8" }, /"\S+weight_scale" is not one/],
  ])("the inverse of a scale is refused: %s", async (_, quantising, message) => {
    const inverse = await changed(file, part, async (tensors, original) => {
      Object.assign(tensors, await requantised(original, { ...quantising, isInverse: true }));
    });
    await expect(refuseImplausibleWeights(inverse)).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringMatching(message),
    });
    const right = await changed(file, part, async (tensors, original) => {
      Object.assign(tensors, await requantised(original, quantising));
    });
    await refuseImplausibleWeights(right);
    expect(reviewPart(right, part).unread).toEqual([]);
  });

  test("weights whose scales are missing are refused, and scales that are no numbers", async () => {
    const missing = await changed(file, part, async (tensors, original) => {
      const all = await requantised(original, { spelling: ".gone", block: [ALL, ALL] });
      for (const [name, each] of Object.entries(all)) if (!name.endsWith(".gone")) tensors[name] = each;
      for (const name of Object.keys(tensors)) if (/scale_weight$/.test(name)) delete tensors[name];
    });
    await expect(refuseImplausibleWeights(missing)).rejects.toMatchObject({
      message: expect.stringContaining("its scale is missing"),
    });
    const nan = await changed(file, part, async (tensors, original) => {
      const all = await requantised(original, { spelling: ".scale_weight", block: [ALL, ALL] });
      for (const [name, each] of Object.entries(all))
        tensors[name] = name.endsWith("scale_weight") ? raw(each.shape, new Float32Array(1).fill(Number.NaN)) : each;
    });
    await expect(refuseImplausibleWeights(nan)).rejects.toMatchObject({
      message: expect.stringContaining("has a scale of NaN"),
    });
  });
});

test("a dead output head and its scale, angles and logit_scale of a text encoder need not be read", async () => {
  const names = ["lm_head.weight_scale", "model.rotary_emb.inv_freq", "logit_scale", "model.embed_tokens.weight_scale"];
  const checkpoint = await changed(PARTS.text_encoder, "text_encoder", (tensors, each) => {
    for (const name of names) extra(name)(tensors, each);
    const bytes = new TextEncoder().encode('{"format": "int8_tensorwise"}');
    for (const module of ["model.embed_tokens", "lm_head"])
      tensors[`${module}.comfy_quant`] = { dtype: "U8", shape: [bytes.length], bytes };
  });
  expect(reviewPart(checkpoint, "text_encoder").unread).toEqual([]);
});

test("which kernel ComfyUI attends with need not be read", async () => {
  const name = "transformer_blocks.0.attn.comfy_attention.config";
  const checkpoint = await changed(PARTS.transformer, "transformer", extra(name, "U8"));
  expect(reviewPart(checkpoint, "transformer").unread).toEqual([]);
});

describe("a format that qedit does not compute is refused by its name", () => {
  const MODULE = "transformer_blocks.0.attn.to_q";
  const text = (name: string, value: object): Change => {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    return (tensors) => {
      tensors[name] = { dtype: "U8", shape: [bytes.length], bytes };
    };
  };
  const both =
    (...changes: readonly Change[]): Change =>
    async (tensors, checkpoint) => {
      for (const change of changes) await change(tensors, checkpoint);
    };

  test.each<[string, Change]>([
    ["SVDQuant, as of Nunchaku", both(extra(`${MODULE}.smooth_factor`), extra(`${MODULE}.qweight`, "I8", [4, 4]))],
    ["NF4 or FP4 of bitsandbytes", extra(`${MODULE}.weight.quant_state.bitsandbytes__nf4`, "U8")],
    ["INT8 of bitsandbytes", extra(`${MODULE}.SCB`)],
    ["AWQ", both(extra(`${MODULE}.qweight`, "I8", [4, 4]), extra(`${MODULE}.qzeros`, "I8", [4, 4]))],
    ["GPTQ", both(extra(`${MODULE}.qweight`, "I8", [4, 4]), extra(`${MODULE}.g_idx`))],
    ["torchao", extra(`${MODULE}._weight_qdata`, "I8", [4, 4])],
    ["quanto", extra(`${MODULE}.weight._data`, "I8", [4, 4])],
    ["DFloat11", extra("transformer_blocks.0.encoded_exponent", "U8")],
    ["NVFP4", extra(`${MODULE}.weight_scale_2`)],
    ["packed integers of compressed-tensors", both(extra(`${MODULE}.weight_packed`), extra(`${MODULE}.weight_shape`))],
    ["NVFP4", text(`${MODULE}.comfy_quant`, { format: "nvfp4" })],
    [
      "W4A8, 4-bit codes of a codebook",
      text(`${MODULE}.comfy_quant`, {
        format: "asym_w4a8_int8",
        group_size: 16,
        convrot: true,
        convrot_groupsize: 256,
      }),
    ],
    [
      "NVFP4 or MXFP4",
      (tensors) => void (tensors["x.weight"] = { dtype: "F4", shape: [4, 4], bytes: new Uint8Array(8) }),
    ],
    ["MXFP8", extra(`${MODULE}.weight_scale`, "F8_E8M0", [24, 1])],
    ["MXFP8", text(`${MODULE}.comfy_quant`, { format: "mxfp8" })],
    [
      "ConvRot in groups of 100 columns",
      text(`${MODULE}.comfy_quant`, { format: "int8_tensorwise", convrot: true, convrot_groupsize: 100 }),
    ],
    [
      "ConvRot in groups of 256 columns, or of other numbers than INT8",
      text(`${MODULE}.comfy_quant`, { format: "float8_e4m3fn", convrot: true, convrot_groupsize: 256 }),
    ],
    ["ConvRot, rotated INT4", text(`${MODULE}.comfy_quant`, { format: "convrot_w4a4" })],
    ['"awq_w4a16", a layer format of ComfyUI', text(`${MODULE}.comfy_quant`, { format: "awq_w4a16" })],
    ['"float8_e4m3fn" with "twist"', text(`${MODULE}.comfy_quant`, { format: "float8_e4m3fn", twist: 2 })],
    [
      "numbers packed into I32",
      (tensors) => void (tensors["x.weight"] = { dtype: "I32", shape: [2, 2], bytes: new Uint8Array(16) }),
    ],
  ])("%s", async (name, change) => {
    const checkpoint = await changed(PARTS.transformer, "transformer", change);
    expect(() => reviewPart(checkpoint, "transformer")).toThrow(
      `${checkpoint.file} as the transformer: its weights are stored as ${name}`,
    );
  });

  test.each([
    { format: "float8_e4m3fn" },
    { format: "float8_e5m2", full_precision_matrix_mult: true },
    { format: "float8_e4m3fn_rowwise" },
    { format: "int8_tensorwise", convrot: false },
  ])("ComfyUI's %j is computed", async (format) => {
    expect(
      packedFormat(await changed(PARTS.transformer, "transformer", text("x.comfy_quant", format))),
    ).toBeUndefined();
  });

  test("also where only the metadata says so", async () => {
    const layers = JSON.stringify({ layers: { x: { format: "mxfp8" } } });
    const checkpoint = { file: "x", tensors: new Map(), metadata: { _quantization_metadata: layers } };
    expect(packedFormat(checkpoint)).toBe("MXFP8");
  });
});

describe("a file of another model is refused by its name", () => {
  const refusal = async (path: string, part: ModelPart) =>
    openPart(path, part).then(
      (checkpoint) => {
        try {
          reviewPart(checkpoint, part);
        } catch (error) {
          return (error as Error).message;
        }
        return "";
      },
      ({ message }: Error) => message,
    );

  test.each<[string, ModelPart, Change, RegExp]>([
    [
      "Qwen3 by its norms",
      "text_encoder",
      extra("model.layers.0.self_attn.q_norm.weight"),
      /it has norms of queries \(q_norm\), so it is not a Qwen2\.5-VL file, but a Qwen3 text encoder/,
    ],
    [
      "a language model without biases",
      "text_encoder",
      (tensors) => void delete tensors["model.layers.0.self_attn.q_proj.bias"],
      /no biases of queries \(q_proj\.bias\)/,
    ],
    ["Qwen2-VL", "text_encoder", extra("visual.blocks.0.mlp.fc1.weight"), /but a Qwen2-VL text encoder/],
    [
      "the VAE of Qwen-Image-Layered",
      "vae",
      (tensors) => {
        const { shape, dtype, bytes } = tensors["encoder.conv1.weight"]!;
        const wider = [shape[0]!, 4, ...shape.slice(2)];
        tensors["encoder.conv1.weight"] = { dtype, shape: wider, bytes: new Uint8Array((bytes.length / 3) * 4) };
      },
      /the VAE of Qwen-Image-Layered, which works on pictures of 4 channels, 3 are wanted/,
    ],
    [
      "the VAE of Wan 2.2",
      "vae",
      (tensors) => {
        delete tensors["conv2.weight"];
        tensors["decoder.upsamples.0.upsamples.0.residual.2.weight"] = raw([1], new Float32Array(1));
      },
      /it has no conv2\.weight, so it is not of Qwen-Image, but the VAE of Wan 2\.2/,
    ],
  ])("%s", async (_, part, change, message) => {
    const { file } = await changed(PARTS[part], part, change);
    expect(await refusal(file, part)).toMatch(message);
  });

  test.each<[string, ModelPart, ModelPart | "lora", RegExp]>([
    ["a LoRA as the transformer", "transformer", "lora", /but a LoRA$/],
    ["a VAE as the transformer", "transformer", "vae", /but a VAE with the structure of Wan 2\.1$/],
    ["a transformer as the VAE", "vae", "transformer", /but a Qwen-Image or other diffusion transformer$/],
    ["a transformer as the text encoder", "text_encoder", "transformer", /but a Qwen-Image or other diffusion transf/],
  ])("%s", async (_, part, is, message) => {
    const file = folder.at(`${part}-${is}.safetensors`);
    await cp(is === "lora" ? fixture("tiny/loras/published.safetensors") : PARTS[is], file);
    expect(await refusal(file, part)).toMatch(message);
  });
});
