// Pictures under other colour profiles than sRGB: read in sRGB, by the same engine (lcms) as the charts of the fixtures.
import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import type { Image } from "../../src/image/image.js";
import { profileName } from "../../src/image/io/colour-profile.js";
import { readImage, readPicture } from "../../src/image/io/read.js";
import { pngChunk } from "../../src/image/io/without-texts.js";
import { encodePicture } from "../../src/image/io/write.js";
import { fixture } from "../support/golden.js";
import { largestDifference } from "./compare.js";
import { TOLERANCES } from "./tolerances.js";

const chart = (name: string) => readFileSync(fixture(`images/profiles/chart-${name}.png`));
const stored = await readImage(chart("srgb"));
const icc = async (name: string) => (await sharp(chart(name)).metadata()).icc!;

function at({ data, width }: Image, x: number, y: number): number[] {
  return [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
}

/** The chart as a PNG of 8 or 16 bits, in colour or grey, with a profile as the file should hold it. */
async function png(
  profile: Uint8Array,
  { channels = 3, bits = 8, isCompressed = true }: { channels?: 1 | 3; bits?: 8 | 16; isCompressed?: boolean } = {},
): Promise<Buffer> {
  const { width, height, data } = stored;
  const colours = sharp(data, { raw: { width, height, channels: 3 } });
  const plain = channels === 1 ? colours.toColourspace("b-w") : colours;
  const deep = bits === 16 ? plain.toColourspace(channels === 1 ? "grey16" : "rgb16") : plain;
  const bytes = await deep.png().toBuffer();
  const body = Buffer.concat([Buffer.from("profile\0\0"), isCompressed ? deflateSync(profile) : profile]);
  return Buffer.concat([bytes.subarray(0, 33), pngChunk("iCCP", body), bytes.subarray(33)]);
}

describe.each(["p3", "adobe", "prophoto"])("chart-%s.png", (name) => {
  test("is read as the same colours in sRGB", async () => {
    const { image, profile } = await readPicture(chart(name));
    expect(largestDifference(image.data, (await readImage(chart(`${name}.as-srgb`))).data)).toBeLessThanOrEqual(
      TOLERANCES.converted,
    );
    expect(profile).toMatchObject({ name: expect.stringMatching(/P3|Adobe|ProPhoto/) });
  });

  test("keeps the stored numbers beside, for tools that ignore profiles", async () => {
    const { profile } = await readPicture(chart(name));
    expect(largestDifference((profile as { unconverted: Image }).unconverted.data, stored.data)).toBe(0);
  });

  test("is the same at 16 bits", async () => {
    const { image } = await readPicture(await png(await icc(name), { bits: 16 }));
    expect(largestDifference(image.data, (await readImage(chart(`${name}.as-srgb`))).data)).toBeLessThanOrEqual(
      TOLERANCES.converted,
    );
  });

  test.each(["jpeg", "webp", "tiff", "avif"] as const)("is the same as %s", async (format) => {
    const options = {
      jpeg: { quality: 100, chromaSubsampling: "4:4:4" },
      webp: { lossless: true },
      tiff: {},
      avif: {},
    };
    const bytes = await sharp(chart(name)).keepIccProfile().toFormat(format, options[format]).toBuffer();
    const { image, profile } = await readPicture(bytes);
    expect(profile).toMatchObject({ name: expect.stringMatching(/P3|Adobe|ProPhoto/), unconverted: {} });
    const wanted = await readImage(chart(`${name}.as-srgb`));
    const mean = image.data.reduce((sum, value, i) => sum + Math.abs(value - wanted.data[i]!), 0) / image.data.length;
    expect(mean).toBeLessThan(format === "avif" ? 5 : 1.5);
  });
});

test("(200, 100, 50) in Display P3 is (215, 93, 31) in sRGB", async () => {
  const place =
    stored.data.findIndex(
      (_, i) => i % 3 === 0 && at(stored, (i / 3) % 240, Math.floor(i / 720)).join() === "200,100,50",
    ) / 3;
  const [red, green, blue] = at((await readPicture(chart("p3"))).image, place % 240, Math.floor(place / 240));
  expect([red, green, blue]).toEqual([215, 93, 31]);
});

describe("a grey profile", () => {
  test.each([8, 16] as const)("of linear light is applied at %d bits", async (bits) => {
    const { image, profile } = await readPicture(await png(linearGrey(), { channels: 1, bits }));
    expect(profile).toMatchObject({ name: "linear grey" });
    const { data } = (profile as { unconverted: Image }).unconverted;
    // IEC 61966-2-1: what is linear becomes lighter.
    const encoded = (level: number) => 255 * (1.055 * (level / 255) ** (1 / 2.4) - 0.055);
    for (let i = 0; i < data.length; i += 3)
      if (data[i]! > 8) expect(Math.abs(image.data[i]! - encoded(data[i]!))).toBeLessThan(2.5);
  });
});

test("a CMYK picture is converted by its own profile, and by arithmetic where it has none", async () => {
  const bytes = await sharp(chart("srgb"))
    .toColourspace("cmyk")
    .withIccProfile("cmyk")
    .jpeg({ quality: 100, chromaSubsampling: "4:4:4" })
    .toBuffer();
  const { image, profile } = await readPicture(bytes);
  expect(profile).toMatchObject({ name: expect.stringMatching(/./), unconverted: {} });
  // What ink can show of the chart's grey steps comes back.
  const dull = Array.from({ length: 240 * 160 }, (_, i) => i).filter((i) => {
    const [red, green, blue] = stored.data.subarray(i * 3, i * 3 + 3);
    return red === green && green === blue && red! > 60;
  });
  for (const i of dull) expect(Math.abs(image.data[i * 3]! - stored.data[i * 3]!)).toBeLessThan(16);
  const plain = await sharp(bytes, { ignoreIcc: true })
    .pipelineColourspace("cmyk")
    .toColourspace("cmyk")
    .jpeg()
    .toBuffer();
  expect((await readPicture(plain)).profile).toBeUndefined();
});

describe("a profile that cannot be used leaves the numbers as they are, with the reason", () => {
  const broken = async (change: (bytes: Buffer) => Uint8Array) => change(Buffer.from(await icc("p3")));
  test.each([
    ["cut off", (bytes: Buffer) => bytes.subarray(0, 300)],
    ["of other tags", (bytes: Buffer) => bytes.fill(0xa5, 132, 200)],
    ["of no bytes that mean anything", (bytes: Buffer) => bytes.fill(0x5a)],
    ["of zeros", (bytes: Buffer) => bytes.fill(0)],
    ["of another colour space", (bytes: Buffer) => (bytes.write("CMYK", 16), bytes)],
    ["of grey for colours", () => linearGrey()],
  ])("%s", async (_, change) => {
    const profile = await broken(change);
    const jpeg = await withJpegProfile(profile);
    for (const bytes of [await png(profile), jpeg]) {
      const read = await readPicture(bytes);
      expect(read.profile).toMatchObject({ fault: expect.stringMatching(/\w/) });
      expect(
        largestDifference(read.image.data, (await sharp(bytes, { ignoreIcc: true }).raw().toBuffer()) as Uint8Array),
      ).toBe(0);
    }
  });

  test("not even compressed", async () => {
    const read = await readPicture(await png(await icc("p3"), { isCompressed: false }));
    expect(read.profile).toMatchObject({ fault: expect.stringMatching(/\w/) });
    expect(largestDifference(read.image.data, stored.data)).toBe(0);
  });
});

/** The chart as a JPEG file with these bytes for a profile. */
async function withJpegProfile(profile: Uint8Array): Promise<Buffer> {
  const { width, height, data } = stored;
  const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg()
    .toBuffer();
  const body = Buffer.concat([Buffer.from("ICC_PROFILE\0\x01\x01", "latin1"), profile]);
  const head = Buffer.from([0xff, 0xe2, 0, 0]);
  head.writeUInt16BE(body.length + 2, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}

describe("colours that are declared without a profile", () => {
  const withChunks = async (...chunks: readonly (readonly [type: string, body: Buffer])[]) => {
    const { width, height, data } = stored;
    const bytes = await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer();
    const written = chunks.map(([type, body]) => pngChunk(type, body));
    return Buffer.concat([bytes.subarray(0, 33), ...written, bytes.subarray(33)]);
  };
  const numbers = (...values: readonly number[]) => {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
    return bytes;
  };
  const ADOBE = [
    ["gAMA", numbers(45470)],
    ["cHRM", numbers(31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)],
  ] as const;
  const near = async (image: Image, name: string) =>
    expect(largestDifference(image.data, (await readImage(chart(`${name}.as-srgb`))).data)).toBeLessThanOrEqual(
      TOLERANCES.converted,
    );

  test("PNG: Display P3 by numbers (cICP)", async () => {
    const { image, profile } = await readPicture(await withChunks(["cICP", Buffer.from([12, 13, 0, 1])]));
    expect(profile).toMatchObject({ name: "Display P3", unconverted: {} });
    await near(image, "p3");
  });

  test("PNG: Adobe RGB by gAMA and cHRM, which count for less than sRGB", async () => {
    await near((await readPicture(await withChunks(...ADOBE))).image, "adobe");
    const tagged = await readPicture(await withChunks(...ADOBE, ["sRGB", Buffer.from([0])]));
    expect(tagged.profile).toBeUndefined();
  });

  test("PNG: sRGB in either way is not spoken of", async () => {
    const srgb = [
      ["gAMA", numbers(45455)],
      ["cHRM", numbers(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)],
    ] as const;
    for (const chunks of [srgb, [["cICP", Buffer.from([1, 13, 0, 1])]] as const])
      expect((await readPicture(await withChunks(...chunks))).profile).toBeUndefined();
  });

  test("a high range (PQ, HLG) is left as it is, with the reason", async () => {
    for (const transfer of [16, 18]) {
      const { image, profile } = await readPicture(await withChunks(["cICP", Buffer.from([9, transfer, 0, 1])]));
      expect(profile).toMatchObject({ fault: expect.stringContaining("HDR") });
      expect(largestDifference(image.data, stored.data)).toBe(0);
    }
  });

  test("HEIC: Display P3 by numbers (nclx)", async () => {
    const bytes = readFileSync(fixture("images/foreign/sample.heic"));
    expect((await readPicture(bytes)).profile).toBeUndefined();
    const declared = Buffer.from(bytes);
    declared.writeUInt16BE(12, declared.indexOf("nclx") + 4);
    expect((await readPicture(declared)).profile).toMatchObject({ name: "Display P3", unconverted: {} });
  });

  test("JPEG: Adobe RGB by the camera's EXIF alone", async () => {
    const { width, height, data } = stored;
    const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
      .jpeg({ quality: 100, chromaSubsampling: "4:4:4" })
      .toBuffer();
    const head = Buffer.from([0xff, 0xe1, 0, 0]);
    const body = Buffer.concat([Buffer.from("Exif\0\0"), interoperable("R03")]);
    head.writeUInt16BE(body.length + 2, 2);
    const { image, profile } = await readPicture(Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]));
    expect(profile).toMatchObject({ name: "Adobe RGB" });
    const wanted = await readImage(chart("adobe.as-srgb"));
    const mean = image.data.reduce((sum, value, i) => sum + Math.abs(value - wanted.data[i]!), 0) / image.data.length;
    expect(mean).toBeLessThan(1.5);
  });
});

/** An EXIF block that says nothing but its interoperability index: three folders, each pointing at the next. */
function interoperable(index: string): Buffer {
  const block = Buffer.alloc(62);
  block.write("II*\0", 0, "latin1");
  block.writeUInt32LE(8, 4);
  for (const [at, tag, type, count] of [
    [8, 0x8769, 4, 1],
    [26, 0xa005, 4, 1],
    [44, 1, 2, 4],
  ] as const) {
    block.writeUInt16LE(1, at);
    block.writeUInt16LE(tag, at + 2);
    block.writeUInt16LE(type, at + 4);
    block.writeUInt32LE(count, at + 6);
    if (tag !== 1) block.writeUInt32LE(at + 18, at + 10);
  }
  block.write(index, 54, "latin1");
  return block;
}

describe("a result", () => {
  const noise = {
    width: 64,
    height: 64,
    data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 2654435761) >>> 24),
  };

  test.each(["png", "jpeg", "webp"] as const)(
    "is tagged as sRGB in %s, and read back without conversion",
    async (format) => {
      const bytes = await encodePicture(noise, { format });
      expect(profileName((await sharp(bytes).metadata()).icc!)).toMatch(/sRGB/);
      expect((await readPicture(bytes)).profile).toBeUndefined();
    },
  );

  test("has the same pixels with the tag", async () => {
    expect(largestDifference((await readImage(await encodePicture(noise, { format: "png" }))).data, noise.data)).toBe(
      0,
    );
  });
});

test("the name of a profile is read in both versions of the format, and nothing of a damaged one", async () => {
  expect(profileName(await icc("adobe"))).toBe("Adobe RGB (1998)");
  expect(profileName(await icc("p3"))).toBe("Display P3");
  const bytes = Buffer.from(await icc("p3"));
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = 0xff;
    expect(profileName(changed)).not.toMatch(/\p{Cc}/u);
    expect(profileName(bytes.subarray(0, at))).not.toMatch(/\p{Cc}/u);
  }
});

/** The smallest grey profile (version 2): a white point and a curve of gamma 1. */
function linearGrey(): Buffer {
  const white = [0.9642, 1, 0.8249].map((value) => Math.round(value * 65536));
  const words = (...values: readonly number[]) => {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
    return bytes;
  };
  const text = Buffer.from("linear grey\0");
  const tags: readonly (readonly [string, Buffer])[] = [
    ["desc", Buffer.concat([Buffer.from("desc\0\0\0\0"), words(text.length), text, Buffer.alloc(78)])],
    ["wtpt", Buffer.concat([Buffer.from("XYZ \0\0\0\0"), words(...white)])],
    ["kTRC", Buffer.concat([Buffer.from("curv\0\0\0\0"), words(1), Buffer.from([1, 0, 0, 0])])],
    ["cprt", Buffer.from("text\0\0\0\0none\0\0\0\0")],
  ];
  let offset = 128 + 4 + tags.length * 12;
  const table = tags.map(([name, body]) => {
    const entry = Buffer.concat([Buffer.from(name), words(offset, body.length)]);
    offset += Math.ceil(body.length / 4) * 4;
    return entry;
  });
  const bodies = tags.map(([, body]) => Buffer.concat([body, Buffer.alloc(-body.length & 3)]));
  const head = Buffer.alloc(128);
  head.writeUInt32BE(offset, 0);
  head.writeUInt32BE(0x02100000, 8);
  head.write("mntrGRAYXYZ ", 12);
  head.write("acsp", 36);
  words(...white).copy(head, 68);
  return Buffer.concat([head, words(tags.length), ...table, ...bodies]);
}
