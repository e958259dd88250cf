// Formats that need a decoder of their own, and those that are refused by their names.
import { readFileSync } from "node:fs";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import type { Image } from "../../src/image/image.js";
import { decodeBmp } from "../../src/image/io/bmp.js";
import { withProfile } from "../../src/image/io/colour-profile.js";
import { readImage, readSize } from "../../src/image/io/read.js";
import { fixture } from "../support/golden.js";
import { largestDifference } from "./compare.js";

const file = (name: string) => readFileSync(fixture(`images/foreign/${name}`));
const bmps = JSON.parse(file("bmp.json").toString()) as Record<string, string>;

const mean = (a: Image, b: Image) =>
  a.data.reduce((sum, value, i) => sum + Math.abs(value - b.data[i]!), 0) / a.data.length;

describe("BMP", () => {
  test.each(Object.entries(bmps))("%s gives the bytes that Pillow reads", async (name, rgb) => {
    const image = await readImage(file(name));
    expect([image.width, image.height]).toEqual([37, 21]);
    expect(largestDifference(image.data, Buffer.from(rgb, "base64"))).toBe(0);
    expect(await readSize(file(name))).toEqual({ width: 37, height: 21 });
  });

  test("every cut and every changed byte of the header gives a picture or an error that says why", () => {
    for (const name of Object.keys(bmps)) {
      const bytes = file(name);
      for (let at = 2; at < 70; at++) {
        for (const value of [0, 1, 0x7f, 0xff]) {
          const changed = Buffer.from(bytes);
          changed[at] = value;
          const size = Math.abs(changed.readInt32LE(18)) * Math.abs(changed.readInt32LE(22));
          if (size < 1e6) expect(reasonOf(changed)).toMatch(/^(|it(s| is| has) .*|BMP of .*)$/);
        }
      }
      for (let at = 30; at < bytes.length; at += 7) expect(reasonOf(bytes.subarray(0, at))).not.toContain("range");
    }
  });

  test("of more pixels than are read is refused before anything is decoded", async () => {
    const bytes = Buffer.from(file("rle8.bmp"));
    bytes.writeInt32LE(60_000, 18);
    bytes.writeInt32LE(60_000, 22);
    await expect(readImage(bytes, "big.bmp")).rejects.toThrow("60000x60000 is more than");
  });
});

function reasonOf(bytes: Buffer): string {
  try {
    decodeBmp(bytes);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

describe("HEIC and JPEG XL", () => {
  test.each(["sample.heic", "sample.jxl"])("%s is read, and its size from the header", async (name) => {
    const image = await readImage(file(name));
    expect([image.width, image.height]).toEqual([240, 160]);
    expect(await readSize(file(name))).toEqual({ width: 240, height: 160 });
  });

  test("show the same picture", async () => {
    expect(mean(await readImage(file("sample.heic")), await readImage(file("sample.jxl")))).toBeLessThan(6);
  });

  test.each(["sample.heic", "sample.jxl"])("%s that is cut off is refused in one line", async (name) => {
    for (const share of [0.02, 0.3, 0.9]) {
      const error = await readImage(file(name).subarray(0, file(name).length * share), name).catch((e: unknown) => e);
      expect(error).toMatchObject({
        code: "QEDIT_E_IMAGE",
        message: expect.stringMatching(/^Cannot (read|decode) sample\..*$/),
      });
    }
  });

  test("a profile beside the pixels is applied as one in a PNG file is", async () => {
    const chart = readFileSync(fixture("images/profiles/chart-p3.png"));
    const { icc } = await sharp(chart).metadata();
    const stored = await readImage(fixture("images/profiles/chart-srgb.png"));
    const { image, profile } = await withProfile(stored, icc!);
    expect(profile).toMatchObject({ name: "Display P3" });
    expect(largestDifference(image.data, (await readImage(chart)).data)).toBe(0);
    expect((await withProfile(stored, Buffer.alloc(300))).profile).toMatchObject({ fault: expect.any(String) });
  });
});

test.each([
  ["scan.jp2", "\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"],
  ["layers.psd", "8BPS\0\x01", "a Photoshop document"],
  ["layers.xcf", "gimp xcf v011", "a GIMP image"],
  ["small.ico", "\0\0\x01\0\x01\0", "an icon (ICO)"],
  ["light.exr", "v/1\x01\x02", "OpenEXR"],
  ["photo.cr2", "II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"],
  ["photo.cr3", "\0\0\0\x18ftypcrx \0\0", "a camera's raw file"],
  ["clip.mov", "\0\0\0\x14ftypqt  \0\0", "a video"],
  ["page.pdf", "%PDF-1.7", "PDF"],
  ["plain.ppm", "P6\n3 2\n255\n", "PNM"],
])("%s is refused by the name of its format", async (name, start, format) => {
  await expect(readImage(Buffer.from(start + "x".repeat(60), "latin1"), name)).rejects.toMatchObject({
    code: "QEDIT_E_IMAGE",
    message: `Cannot read ${name}: it is ${format}, which is not supported`,
    hint: "Convert it to JPEG or PNG first",
  });
});
