// Model files as people have them: the embedded model written again in other forms gives its picture, and what cannot be run is named by every command alike.
import { appendFile, cp } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { fixture } from "../support/golden.js";
import { type Quantising, raw, rawTensors, requantised, writeRaw } from "../support/quantised.js";
import { CAT, type Ended, expectRefusal, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const EDIT = [
  "run",
  CAT,
  "--model",
  "tiny",
  "-p",
  "make it sepia",
  "--seed",
  "3",
  "--steps",
  "4",
  "--megapixels",
  "0.04",
];
const ALL = Number.POSITIVE_INFINITY;

/** Decibels: 8-bit weights rounded once more differ from those that they were made of by less. */
const SAME_PICTURE = 40;

const transformer = await readSafetensors(fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors"));
const textEncoder = await readSafetensors(fixture("tiny-model/tiny_text_encoder_fp8_scaled.safetensors"));
const vae = await readSafetensors(fixture("tiny-model/tiny_vae.safetensors"));

let embedded: Buffer;
const pixels = (name: string) => sharp(folder.at(name)).removeAlpha().raw().toBuffer();
const edit = (args: readonly string[], output: string): Promise<Ended> =>
  qedit([...EDIT, ...QUICK, ...args, "-o", output], here);

async function expectEmbeddedPicture({ code, stderr }: Ended, output: string): Promise<void> {
  expect(code, stderr).toBe(0);
  expect(difference(await pixels(output), embedded)).toBeGreaterThan(SAME_PICTURE);
}

function difference(a: Buffer, b: Buffer): number {
  const squares = a.reduce((sum, value, at) => sum + (value - b[at]!) ** 2, 0);
  return 10 * Math.log10((255 ** 2 * a.length) / squares);
}

beforeAll(async () => {
  expect((await edit([], "embedded.png")).code).toBe(0);
  embedded = await pixels("embedded.png");
});

describe("the picture of the embedded model comes from", () => {
  test.each<[string, Quantising]>([
    ["a transformer with blocks of 128", { spelling: ".weight_scale_inv", block: [128, 128] }],
    ["a transformer with a scale a row", { spelling: ".weight_scale", block: [1, ALL], scaleType: "BF16" }],
    ["a transformer with one scale called .scale", { spelling: ".scale", block: [ALL, ALL], shape: () => [] }],
    ["a transformer of integers", { spelling: ".weight.scale", block: [1, ALL], dtype: "I8" }],
  ])("%s", async (name, quantising) => {
    const inBlocks = (each: string) => each.includes("transformer_blocks");
    const tensors = await requantised(transformer, quantising, inBlocks);
    const file = await writeRaw(folder.at(`${name}.safetensors`), tensors, transformer.metadata);
    await expectEmbeddedPicture(await edit(["--transformer", file], `${name}.png`), `${name}.png`);
  });

  test("a text encoder with blocks and with a scale a row of its embeddings", async () => {
    const blocks: Quantising = { spelling: ".weight_scale_inv", block: [32, 16] };
    const rows: Quantising = { spelling: ".scale_weight", block: [1, ALL] };
    const isEmbedding = (each: string) => each.includes("embed_tokens");
    const tensors = {
      ...(await requantised(textEncoder, blocks, (each) => !isEmbedding(each))),
      ...Object.fromEntries(
        Object.entries(await requantised(textEncoder, rows, isEmbedding)).filter(([each]) => isEmbedding(each)),
      ),
    };
    const file = await writeRaw(folder.at("encoder.safetensors"), tensors, textEncoder.metadata);
    const ended = await edit(["--text-encoder", file], "encoder.png");
    expect(ended.code, ended.stderr).toBe(0);
    // The embeddings had 16 bits before.
    expect(difference(await pixels("encoder.png"), embedded)).toBeGreaterThan(SAME_PICTURE - 8);
  });

  test("a VAE of integers with a scale a row, as near as its rounded weights", async () => {
    const tensors = await requantised(vae, { spelling: ".scale_weight", block: [1, ALL], dtype: "I8" });
    const plain = Object.fromEntries(
      Object.entries(tensors).flatMap(([name, each]) => {
        if (name.endsWith(".scale_weight")) return [];
        const scale = tensors[name.replace(/weight$/, "scale_weight")];
        if (!name.endsWith(".weight") || scale === undefined) return [[name, each]];
        const scales = new Float32Array(scale.bytes.slice().buffer);
        const columns = each.bytes.length / each.shape[0]!;
        const values = Float32Array.from(
          new Int8Array(each.bytes.buffer),
          (value, at) => value * scales[Math.floor(at / columns)]!,
        );
        return [[name, raw(each.shape, values)]];
      }),
    );
    for (const [name, form] of Object.entries({ integers: tensors, plain })) {
      const file = await writeRaw(folder.at(`vae-${name}.safetensors`), form, vae.metadata);
      const ended = await edit(["--vae", file], `vae-${name}.png`);
      expect(ended.code, ended.stderr).toBe(0);
    }
    expect(difference(await pixels("vae-integers.png"), await pixels("vae-plain.png"))).toBeGreaterThan(SAME_PICTURE);
  });
});

describe("a whole model in one file, without any configuration,", () => {
  const file = folder.at("whole/all-in-one.safetensors");
  beforeAll(async () => {
    const under = async (checkpoint: typeof vae, prefix: string) =>
      Object.fromEntries(Object.entries(await rawTensors(checkpoint)).map(([name, each]) => [prefix + name, each]));
    await writeRaw(file, {
      ...(await under(transformer, "model.diffusion_model.")),
      ...(await under(vae, "vae.")),
      ...(await under(textEncoder, "text_encoders.qwen25_7b.transformer.")),
      "text_encoders.qwen25_7b.logit_scale": raw([], new Float32Array(1)),
    });
  });
  const pictureOf = async (args: readonly string[], output: string) => {
    const ended = await edit(args, output);
    expect(ended.code, ended.stderr).toBe(0);
    return pixels(output);
  };

  test("given once serves for all three parts", async () => {
    expect((await pictureOf(["--checkpoint", file], "whole.png")).equals(embedded)).toBe(true);
    expect((await qedit(["inspect", "whole.png"], here)).stdout).toMatch(/all-in-one/);
    const again = await qedit(
      ["rerun", "whole.png", CAT, "--models-dir", folder.at("whole"), ...QUICK, "-o", "again.png"],
      here,
    );
    expect(again.code, again.stderr).toBe(0);
    expect((await pixels("again.png")).equals(embedded)).toBe(true);
  });

  test("given by role does so too, and single files count before it", async () => {
    const roles = ["--transformer", file, "--vae", file, "--text-encoder", file];
    expect((await pictureOf(roles, "roles.png")).equals(embedded)).toBe(true);
    const mixed = ["--checkpoint", "whole/all-in-one.safetensors", "--vae", vae.file];
    expect((await pictureOf(mixed, "mixed.png")).equals(embedded)).toBe(true);
  });

  test("is named as such by models scan, models verify and inspect, and planned", async () => {
    const note = /all in one: holds the VAE and the text encoder too/;
    for (const args of [
      ["models", "scan", folder.at("whole")],
      ["models", "verify", file],
      ["inspect", file],
    ])
      expect((await qedit(args, here)).stdout).toMatch(note);
    const planned = await qedit(["plan", CAT, "-p", "x", "--checkpoint", file, ...QUICK], here);
    expect(planned.code, planned.stderr).toBe(0);
  });

  test("that lacks a part says so", async () => {
    const tensors = await rawTensors(await readSafetensors(file));
    const partly = Object.fromEntries(Object.entries(tensors).filter(([name]) => !name.startsWith("vae.")));
    const ended = await qedit(
      ["run", CAT, "-p", "x", "--checkpoint", await writeRaw(folder.at("partly.safetensors"), partly), ...QUICK],
      here,
    );
    expectRefusal(ended, {
      code: 3,
      message: /^error: Cannot use \S+partly\.safetensors as the VAE: it has no conv2\.weight/,
      hint: /--vae qwen_image_vae/,
    });
  });
});

describe("said alike by run, models scan, models verify and inspect", () => {
  const mxfp8 = async () => {
    const tensors = await rawTensors(transformer);
    for (const [name, { shape }] of transformer.tensors) {
      if (!name.endsWith(".weight") || shape.length !== 2) continue;
      const blocks = [shape[0]!, Math.ceil(shape[1]! / 32)];
      const bytes = new Uint8Array(blocks[0]! * blocks[1]!).fill(127);
      tensors[`${name.slice(0, -7)}.weight_scale`] = { dtype: "F8_E8M0", shape: blocks, bytes };
    }
    return tensors;
  };
  const unread = async () => ({ ...(await rawTensors(transformer)), "img_in.secret": raw([3], new Float32Array(3)) });
  const inverse = () => requantised(transformer, { spelling: ".scale_weight", block: [ALL, ALL], isInverse: true });

  const gap = async () => {
    const apart = (name: string) => name.replace(/^transformer_blocks\.1\./, "transformer_blocks.7.");
    return Object.fromEntries(Object.entries(await rawTensors(transformer)).map(([name, each]) => [apart(name), each]));
  };

  test.each([
    ["gap", gap, /: it has "transformer_blocks\.2", and no "transformer_blocks\.1"/],
    ["MXFP8", mxfp8, /its weights are stored as MXFP8, which qedit does not compute/],
    ["unread", unread, /nothing reads "img_in\.secret", and beside 8-bit weights that may be a scale/],
    ["inverse", inverse, /has rows of root mean square .*; the scale "\S+scale_weight" is not one/],
  ])("%s", async (name, make, message) => {
    const file = await writeRaw(folder.at(`${name}/${name}.safetensors`), await make(), transformer.metadata);
    const ended = await edit(["--transformer", file], "never.png");
    expectRefusal(ended, { code: 3, message, hint: /qedit models pull/ });
    expect(ended.stderr).not.toMatch(/damaged|download it again/);
    expectRefusal(await qedit([...EDIT, "-n", "--transformer", file], here), { code: 3, message });
    expect((await qedit(["models", "scan", folder.at(name)], here)).stdout).toMatch(message);
    const verified = await qedit(["models", "verify", file], here);
    expect(verified.stdout).toMatch(message);
    expect(verified.stdout).toMatch(/^BAD /);
    expect(verified.code).toBe(3);
    const { stdout } = await qedit(["inspect", file], here);
    expect(stdout).toMatch(message);
    expect(stdout).toMatch(name === "MXFP8" ? /, MXFP8 \(mixed\)/ : /, fp8 e4m3/);
  });

  test("a tensor that nothing reads beside wider weights is a warning", async () => {
    const wide = await readSafetensors(fixture("tiny/transformer-fp32.safetensors"));
    const tensors = { ...(await rawTensors(wide)), "img_in.secret": raw([3], new Float32Array(3)) };
    const file = await writeRaw(folder.at("wide/wide.safetensors"), tensors, wide.metadata);
    const message = /the transformer reads nothing of "img_in\.secret"/;
    for (const args of [
      ["models", "scan", folder.at("wide")],
      ["models", "verify", file],
      ["inspect", file],
    ]) {
      const ended = await qedit(args, here);
      expect(ended.stdout).toMatch(message);
      expect(ended.code).toBe(0);
    }
    const { stderr } = await qedit(
      ["sample", "--latents", "none", "--cond", "none", "--transformer", file, "-o", "never.safetensors"],
      here,
    );
    expect(stderr).toMatch(message);
  });
});

test("a file with bytes at its end is refused as such, by its length", async () => {
  const file = folder.at("longer.safetensors");
  await cp(transformer.file, file);
  await appendFile(file, new Uint8Array(64));
  const ended = await edit(["--transformer", file], "never.png");
  expectRefusal(ended, { code: 3, message: /: 64 bytes belong to nothing/, hint: /head -c \d+ FILE/ });
});
