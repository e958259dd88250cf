// The EXIF of a camera, kept in a result: read back by libexif (through sharp) and by qedit's own reader of texts.
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { cameraExif, exifOfResult } from "../../src/image/io/camera-exif.js";
import { pictureTexts } from "../../src/image/io/description.js";
import { readImage, readPicture } from "../../src/image/io/read.js";
import { encodePicture } from "../../src/image/io/write.js";

const PICTURE = { width: 8, height: 6, data: Uint8Array.from({ length: 144 }, (_, i) => (i * 89) % 256) };
const CAMERA = {
  IFD0: { Make: "Maker", Model: "Camera 1", Artist: "a person" },
  IFD2: {
    DateTimeOriginal: "2024:05:06 07:08:09",
    PixelXDimension: "4000",
    PixelYDimension: "3000",
    ColorSpace: "65535",
  },
  IFD3: { GPSLatitudeRef: "N", GPSLatitude: "48/1 30/1 0/1" },
};
const photograph = sharp(PICTURE.data, { raw: { width: 8, height: 6, channels: 3 } })
  .withExif(CAMERA)
  .withMetadata({ orientation: 6 });

const valueOf = (exif: Buffer, tag: number) => {
  // Big-endian or little, whichever libexif wrote; numbers of one value.
  const isLittle = exif[0] === 0x49;
  const u16 = (at: number) => (isLittle ? exif.readUInt16LE(at) : exif.readUInt16BE(at));
  const u32 = (at: number) => (isLittle ? exif.readUInt32LE(at) : exif.readUInt32BE(at));
  const search = (folder: number): number | undefined => {
    for (let i = 0; i < u16(folder); i++) {
      const at = folder + 2 + i * 12;
      if (u16(at) === tag) return u16(at + 2) === 3 ? u16(at + 8) : u32(at + 8);
      if (u16(at) === 0x8769) {
        const found = search(u32(at + 8));
        if (found !== undefined) return found;
      }
    }
    return undefined;
  };
  return search(u32(4));
};

const ORIENTATION = 0x0112;

test.each(["jpeg", "png", "webp", "avif"] as const)("the block of a %s file is found", async (format) => {
  const bytes = await photograph.clone().toFormat(format).toBuffer();
  expect(cameraExif(bytes)!.includes("Camera 1")).toBe(true);
  expect((await readPicture(bytes)).exif!.includes("Camera 1")).toBe(true);
});

test("a picture without EXIF has none", async () => {
  for (const format of ["jpeg", "png", "webp"] as const)
    expect(cameraExif(Buffer.from(await encodePicture(PICTURE, { format })))).toBeUndefined();
});

describe.each(["jpeg", "png", "webp"] as const)("a result in %s", (format) => {
  const description = JSON.stringify({ recipe: 1, prompt: "Ü" });

  test.each([
    ["with a recipe", description],
    ["with a recipe too long for EXIF", JSON.stringify({ prompt: "a".repeat(90_000) })],
    ["without one", undefined],
  ])("%s keeps camera, date and place, upright, in sRGB, with its own size", async (_, text) => {
    const exif = cameraExif(await photograph.clone().jpeg().toBuffer())!;
    const bytes = Buffer.from(await encodePicture(PICTURE, { format, exif, ...(text && { description: text }) }));
    const kept = cameraExif(bytes)!;
    for (const word of ["Maker", "Camera 1", "a person", "2024:05:06 07:08:09"]) expect(kept.includes(word)).toBe(true);
    expect(valueOf(kept, ORIENTATION)).toBe(1);
    expect(valueOf(kept, 0xa001)).toBe(1);
    expect([valueOf(kept, 0xa002), valueOf(kept, 0xa003)]).toEqual([8, 6]);
    expect(valueOf(kept, 0x8825)).toBeGreaterThan(0);
    const metadata = await sharp(bytes).metadata();
    expect(metadata).toMatchObject({ format, width: 8, height: 6, orientation: 1 });
    expect(metadata.icc).toBeDefined();
    const texts = pictureTexts(bytes).map((each) => each.text);
    if (text !== undefined) expect(texts.map(tryJson)).toContainEqual(JSON.parse(text));
    expect(texts).toContain("Camera 1");
    if (format === "png") expect([...(await readImage(bytes)).data]).toEqual([...PICTURE.data]);
  });

  test("holds no recipe of an earlier edit, and no thumbnail", async () => {
    const before = sharp(PICTURE.data, { raw: { width: 8, height: 6, channels: 3 } }).withExif({
      IFD0: { Make: "Maker", ImageDescription: '{"prompt":"a secret"}' },
    });
    const exif = cameraExif(await before.jpeg().toBuffer())!;
    const bytes = Buffer.from(await encodePicture(PICTURE, { format, exif }));
    expect(bytes.includes("a secret")).toBe(false);
    expect(cameraExif(bytes)!.includes("Maker")).toBe(true);
  });
});

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

test("the thumbnail's bytes are cleared, for it shows the original", () => {
  const block = Buffer.alloc(80);
  block.write("II*\0", 0, "latin1");
  block.writeUInt32LE(8, 4);
  // The main folder is empty; the next one points at the thumbnail.
  block.writeUInt32LE(14, 10);
  block.writeUInt16LE(2, 14);
  for (const [index, [tag, value]] of [
    [0x0201, 60],
    [0x0202, 12],
  ].entries()) {
    const at = 16 + index * 12;
    block.writeUInt16LE(tag!, at);
    block.writeUInt16LE(4, at + 2);
    block.writeUInt32LE(1, at + 4);
    block.writeUInt32LE(value!, at + 8);
  }
  block.write("a thumbnail!", 60, "latin1");
  const kept = exifOfResult(block, PICTURE);
  expect(kept.includes("thumbnail")).toBe(false);
  expect(kept.readUInt32LE(10)).toBe(0);
});

test("every cut and every changed byte of a block is survived", async () => {
  const files = await Promise.all(
    (["jpeg", "png", "webp", "avif"] as const).map((format) => photograph.clone().toFormat(format).toBuffer()),
  );
  for (const file of files) {
    for (let at = 0; at < file.length; at++) {
      const changed = Buffer.from(file);
      changed[at] = 0xff;
      for (const bytes of [changed, file.subarray(0, at)]) {
        const exif = cameraExif(bytes);
        expect(() => exif && exifOfResult(exif, PICTURE, "{}")).not.toThrow();
      }
    }
  }
});
