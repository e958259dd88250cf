// Transparency: channels that go through crops, tensors and bytes, and what is composited over white.
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { alphaOf, overWhite, withAlpha, withoutAlpha, withoutOpaque } from "../../src/image/alpha.js";
import { crop, fromBytes, type Image, toBytes, toFloat, toPlanes } from "../../src/image/image.js";
import { readPicture } from "../../src/image/io/read.js";
import { tensor } from "../../src/std/tensor.js";

// 3 x 2 pixels: red, green, blue and alpha all unlike each other.
const RGBA: Image = {
  width: 3,
  height: 2,
  channels: 4,
  data: Uint8Array.from({ length: 24 }, (_, i) => (i * 37) % 256),
};

test("a picture over white is what white paper shows of it", () => {
  const data = Uint8Array.of(...[0, 100, 255, 255], ...[0, 100, 255, 0], ...[0, 100, 255, 51]);
  expect(overWhite({ width: 3, height: 1, channels: 4, data })).toEqual({
    width: 3,
    height: 1,
    // 100 · 0.2 + 255 · 0.8 = 224
    data: Uint8Array.of(...[0, 100, 255], ...[255, 255, 255], ...[204, 224, 255]),
  });
});

test("floats over white are not rounded", () => {
  const { data } = overWhite({ width: 1, height: 1, channels: 4, data: Float32Array.of(0.5, 0, 1, 0.25) });
  expect([...data]).toEqual([0.875, 0.75, 1]);
});

test("alpha of 250 and more everywhere is opaque to the eye, and goes", () => {
  const rgba = (alpha: number): Image => ({
    width: 2,
    height: 1,
    channels: 4,
    data: Uint8Array.of(1, 2, 3, 255, 4, 5, 6, alpha),
  });
  expect(withoutOpaque(rgba(250))).toEqual({ width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6) });
  expect(withoutOpaque(rgba(249))).toEqual(rgba(249));
});

test("a picture without alpha is the same over white", () => {
  const opaque: Image = { width: 1, height: 1, data: Uint8Array.of(1, 2, 3) };
  expect(overWhite(opaque)).toBe(opaque);
});

test("alpha is put on and taken off without touching colours", () => {
  const rgb = withoutAlpha(RGBA);
  expect(rgb.data).toHaveLength(18);
  expect(withAlpha(rgb, alphaOf(RGBA))).toEqual(RGBA);
  expect(alphaOf(withAlpha(rgb))).toEqual(new Uint8Array(6).fill(255));
  expect(alphaOf(rgb)).toBeUndefined();
});

test("crops, floats and tensors keep four channels", () => {
  expect(crop(RGBA, { x: 1, y: 1, width: 2, height: 1 })).toEqual({
    width: 2,
    height: 1,
    channels: 4,
    data: RGBA.data.subarray(16, 24),
  });
  expect(toBytes(toFloat(RGBA), "round")).toEqual(RGBA);
  const planes = toPlanes(RGBA);
  expect(planes.shape).toEqual([1, 4, 2, 3]);
  // Alpha of the second pixel.
  expect(planes.data[3 * 6 + 1]).toBe(Math.fround(RGBA.data[7]! / 255));
  expect(fromBytes(tensor("uint8", [1, 2, 3, 4], RGBA.data))).toEqual(RGBA);
});

describe("a file's transparency is read beside its colours", () => {
  // 3 x 2 pixels: alpha 0, 1, 128, 200, 254 and 255.
  const alpha = [0, 1, 128, 200, 254, 255];
  const rgba = Uint8Array.from(alpha.flatMap((value, pixel) => [pixel * 40, 255 - pixel * 30, 77, value]));
  const rgb = withoutAlpha({ width: 3, height: 2, channels: 4, data: rgba }).data;
  const image = () => sharp(rgba, { raw: { width: 3, height: 2, channels: 4 } });
  const deep = () =>
    sharp(
      Uint16Array.from(rgba, (value) => value * 257),
      { raw: { width: 3, height: 2, channels: 4 } },
    ).toColourspace("rgb16");

  test.each([
    ["PNG", () => image().png()],
    ["PNG of 16 bits", () => deep().png()],
    ["lossless WebP", () => image().webp({ lossless: true, exact: true })],
    ["TIFF", () => image().tiff({ compression: "lzw" })],
    ["lossless AVIF", () => image().avif({ lossless: true, chromaSubsampling: "4:4:4" })],
  ])("of %s", async (format, encode) => {
    const read = await readPicture(await encode().toBuffer());
    expect([...read.alpha!]).toEqual(alpha);
    expect(read.image.data).toHaveLength(18);
    // libaom's lossless AVIF rounds colours on their way through YCbCr.
    if (!format.includes("AVIF")) expect(read.image.data).toEqual(Buffer.from(rgb));
  });

  test("turned as its EXIF says", async () => {
    const read = await readPicture(await image().withMetadata({ orientation: 6 }).png().toBuffer());
    expect(read.image).toMatchObject({ width: 2, height: 3 });
    expect([...read.alpha!]).toEqual([200, 0, 254, 1, 255, 128]);
  });

  test("grey with alpha, and a palette with a transparent colour", async () => {
    const grey = sharp(Uint8Array.of(10, 0, 20, 128), { raw: { width: 2, height: 1, channels: 2 } }).toColourspace(
      "b-w",
    );
    expect([...(await readPicture(await grey.png().toBuffer())).alpha!]).toEqual([0, 128]);
    const gif = sharp(Uint8Array.of(255, 0, 0, 255, 0, 255, 0, 0), { raw: { width: 2, height: 1, channels: 4 } }).gif();
    expect([...(await readPicture(await gif.toBuffer())).alpha!]).toEqual([255, 0]);
  });

  test("a picture whose every pixel is opaque has none", async () => {
    const opaque = sharp(rgb, { raw: { width: 3, height: 2, channels: 3 } }).ensureAlpha();
    const read = await readPicture(await opaque.png().toBuffer());
    expect(read).not.toHaveProperty("alpha");
  });
});
