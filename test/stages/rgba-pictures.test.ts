// Pictures with transparency through the stages of Qwen-Image-2.1's VAE: encode-image and decode, and what becomes of alpha in files.
import { readFile } from "node:fs/promises";
import sharp from "sharp";
import { afterAll, describe, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { overWhite, withAlpha, withoutAlpha } from "../../src/image/alpha.js";
import type { Image } from "../../src/image/image.js";
import { readPicture } from "../../src/image/io/read.js";
import { encodePicture } from "../../src/image/io/write.js";
import { pasted } from "../../src/image/paste/paste.js";
import { straightened } from "../../src/image/resize/straighten.js";
import { decode, encodeDecoded, flattening, refuseFlat } from "../../src/stages/decode.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { readPictures } from "../../src/stages/pictures.js";
import { fixture } from "../support/golden.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
afterAll(() => engine.dispose());
const context = { engine, emit: () => {}, signal: new AbortController().signal };
const vae = await openModel(fixture("tiny-2/vae.safetensors"), "vae");
const old = await openModel(fixture("tiny/vae.safetensors"), "vae");
const cat = new Uint8Array(await readFile(fixture("images/cat.jpg")));

const SETTINGS = {
  vaeDtype: "auto",
  tile: undefined,
  size: { width: 96, height: 64 },
  megapixels: undefined,
  match: undefined,
};

// The cat, half of it transparent.
async function cutOut(): Promise<Uint8Array> {
  const alpha = await sharp(Buffer.alloc(451 * 300, 255).fill(0, 0, 451 * 150), {
    raw: { width: 451, height: 300, channels: 1 },
  })
    .png()
    .toBuffer();
  return sharp(cat).joinChannel(alpha).png().toBuffer();
}

const encoded = async (bytes: readonly Uint8Array[], settings: object = {}) => {
  const pictures = await readPictures(bytes.map((each, index) => ({ name: `picture ${index + 1}`, bytes: each })));
  return encodeImage.run({ inputs: { pictures }, models: { vae }, settings: { ...SETTINGS, ...settings } }, context);
};

describe("encode-image", () => {
  test("sees a picture's transparency, and gives latents of the VAE's channels and cells", async () => {
    const [opaque, transparent] = [await encoded([cat]), await encoded([await cutOut()])];
    expect(opaque.tensors["latent"]!.shape).toEqual([1, 8, 4, 6]);
    expect(opaque.tensors["latent"]!.data).not.toEqual(transparent.tensors["latent"]!.data);
    // Opaque alpha is the same as none.
    const withOwn = await sharp(cat).ensureAlpha().png().toBuffer();
    const withNone = await sharp(cat).removeAlpha().png().toBuffer();
    expect((await encoded([withOwn])).tensors["latent"]).toEqual((await encoded([withNone])).tensors["latent"]);
  });

  test("gives an empty latent of the wanted size where there is no picture, and the old family refuses", async () => {
    const { tensors, info } = await encoded([]);
    expect(Object.keys(tensors)).toEqual(["latent"]);
    expect(tensors["latent"]!.shape).toEqual([1, 8, 4, 6]);
    expect(tensors["latent"]!.data.every((value) => value === 0)).toBe(true);
    expect(info.settings["latent_statistics"]).toMatchObject({ mean: [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4] });
    const without = { inputs: { pictures: [] }, models: { vae: old }, settings: SETTINGS };
    await expect(encodeImage.run(without, context)).rejects.toThrow(/No picture was given/);
  });

  test("takes ten pictures, 16 as ComfyUI's node does, and refuses more", async () => {
    const small = await sharp(cat).resize(32, 32).png().toBuffer();
    const many = (count: number) => new Array<Uint8Array>(count).fill(small);
    const { tensors } = await encoded(many(10));
    expect(Object.keys(tensors)).toHaveLength(11);
    await expect(encoded(many(11))).rejects.toThrow(/Cannot edit 11 pictures at once: the model takes 10 at most/);
    const node = { match: "comfyui", size: undefined, megapixels: 0.01 };
    expect(Object.keys((await encoded(many(16), node)).tensors)).toHaveLength(17);
    await expect(encoded(many(17), node)).rejects.toThrow(/takes 16 at most/);
  });
});

describe("decode", () => {
  const settings = { vaeDtype: "auto", tile: undefined, keepSize: false, match: undefined, noMetadata: true };
  const decoded = async (match?: string) => {
    const { tensors, info } = await encoded([await cutOut()]);
    const samples = { kind: "samples", tensors: { latent_tensor: tensors["latent"]! }, info } as const;
    return decode.run({ inputs: { samples }, models: { vae }, settings: { ...settings, match } }, context);
  };

  test("gives a picture with alpha, which PNG and WebP keep and JPEG puts over white", async () => {
    const picture = await decoded();
    expect(picture.image).toMatchObject({ width: 96, height: 64, channels: 4 });
    const png = await readPicture(await encodeDecoded(picture, { format: "png" }));
    expect(withAlpha(png.image, png.alpha).data).toEqual(Uint8Array.from(picture.image.data));
    expect((await readPicture(await encodeDecoded(picture, { format: "webp" }))).alpha).toBeDefined();
    const jpeg = await readPicture(await encodeDecoded(picture, { format: "jpeg", quality: 100 }));
    const white = overWhite(picture.image).data;
    const difference = jpeg.image.data.reduce((sum, value, at) => sum + Math.abs(value - white[at]!), 0) / white.length;
    expect(difference).toBeLessThan(3);
    expect(flattening(picture, { format: "jpeg" })).toBe("JPEG has no transparency: the picture is written over white");
    expect(flattening(picture, { format: "webp" })).toBeUndefined();
  });

  test("refuses latents of the other family by their channels", async () => {
    const { tensors, info } = await encoded([cat]);
    const samples = { kind: "samples", tensors: { latent_tensor: tensors["latent"]! }, info } as const;
    await expect(decode.run({ inputs: { samples }, models: { vae: old }, settings }, context)).rejects.toThrow(
      /Cannot decode the samples: they have 8 channels, .*vae\.safetensors takes 16/,
    );
  });

  test("refuses a picture that is transparent everywhere", () => {
    const data = Uint8Array.from({ length: 4 * 6 }, (_, i) => (i % 4 === 3 ? 0 : i * 9));
    expect(() => refuseFlat({ width: 3, height: 2, channels: 4, data })).toThrow(/transparent everywhere/);
  });
});

describe("what was made for opaque pictures", () => {
  const size = { width: 2, height: 1, channels: 4 } as const;

  test("pastes by alpha, so that what is transparent colours no edge", () => {
    const result: Image = { ...size, data: Uint8Array.of(0, 0, 0, 0, 10, 20, 30, 255) };
    const original: Image = { ...size, data: Uint8Array.of(200, 100, 50, 255, 1, 2, 3, 40) };
    const alpha = { width: 2, height: 1, rows: [Float32Array.of(0.5, 0)] };
    const box = { x: 0, y: 0, width: 2, height: 1 };
    expect([...pasted(result, original, { alpha, at: box, box }).image.data]).toEqual([200, 100, 50, 128, 1, 2, 3, 40]);
  });

  test("straightens alpha with the colours", () => {
    const { image } = { image: withAlpha({ width: 8, height: 8, data: new Uint8Array(192).fill(90) }) };
    expect(straightened(image, { zoom: 1, x: 0.5, y: 0 }).data).toEqual(image.data);
  });

  test("a picture file keeps alpha and the colours under it", async () => {
    const image = withAlpha({ width: 4, height: 4, data: new Uint8Array(48).fill(100) }, new Uint8Array(16).fill(60));
    const read = await readPicture(await encodePicture(image, { format: "png" }));
    expect(read.image.data).toEqual(Buffer.from(withoutAlpha(image).data));
    expect([...new Set(read.alpha)]).toEqual([60]);
  });
});
