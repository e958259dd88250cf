import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { pictureTexts } from "../../src/image/io/description.js";
import { readImage, readSize } from "../../src/image/io/read.js";
import { withoutTexts } from "../../src/image/io/without-texts.js";
import { encodePicture } from "../../src/image/io/write.js";
import { processorTime } from "../support/processor-time.js";

const PICTURE = { width: 8, height: 8, data: new Uint8Array(192).fill(90) };
const SHORT = JSON.stringify({ prompt: 'Ein "großer" 猫 🐈 & <b>', seed: 42 });
const LONG = JSON.stringify({ prompt: "猫 & ".repeat(40_000), seed: 42 });

/** A PNG of these chunks, without pixels, which are not read here. */
function png(...chunks: (readonly [type: string, body: Buffer])[]): Buffer {
  const parts = chunks.map(([type, body]) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    return Buffer.concat([length, Buffer.from(type, "latin1"), body, Buffer.alloc(4)]);
  });
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts]);
}

const iTXt = (keyword: string, text: string) => ["iTXt", Buffer.from(`${keyword}\0\0\0\0\0${text}`)] as const;

describe.each(["png", "jpeg", "webp"] as const)("a description in %s", (format) => {
  test.each([
    ["short", SHORT],
    ["too long for EXIF", LONG],
  ])("that is %s is read back", async (_, description) => {
    const bytes = await encodePicture(PICTURE, { format, description });
    expect(pictureTexts(bytes).map(({ text }) => tryJson(text))).toContainEqual(JSON.parse(description));
    expect(await sharp(bytes).metadata()).toMatchObject({ format, width: 8, height: 8 });
  });

  test("is missing where none was written", async () => {
    expect(pictureTexts(await encodePicture(PICTURE, { format }))).toEqual([]);
  });
});

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

describe("other tools' texts", () => {
  test("PNG: tEXt, zTXt, iTXt, compressed or not", () => {
    const compressed = ["iTXt", Buffer.concat([Buffer.from("prompt\0\x01\0de\0Frage\0"), deflateSync("猫")])] as const;
    const file = png(
      ["tEXt", Buffer.from("parameters\0a caf\xe9", "latin1")],
      ["zTXt", Buffer.concat([Buffer.from("workflow\0\0"), deflateSync("{}")])],
      iTXt("qedit", "猫"),
      compressed,
    );
    expect(pictureTexts(file)).toEqual([
      { keyword: "parameters", text: "a café" },
      { keyword: "workflow", text: "{}" },
      { keyword: "qedit", text: "猫" },
      { keyword: "prompt", text: "猫" },
    ]);
  });

  test("JPEG and WebP: the EXIF user comment in UTF-16, as WebUI writes it", async () => {
    const text = "a cat, steps: 20";
    for (const [order, comment] of [
      ["II", Buffer.from(text, "utf16le")],
      ["MM", Buffer.from(text, "utf16le").swap16()],
    ] as const) {
      const exif = userComment(order, comment);
      const app1 = Buffer.concat([Buffer.from("Exif\0\0"), exif]);
      const head = Buffer.from([0xff, 0xd8, 0xff, 0xe1, 0, 0]);
      head.writeUInt16BE(app1.length + 2, 4);
      expect(pictureTexts(Buffer.concat([head, app1]))).toEqual([{ keyword: "UserComment", text }]);
    }
  });

  test("JPEG: a comment, and the description that an XMP editor wrote", async () => {
    const xml =
      '<x:xmpmeta><dc:description>\n <rdf:Alt><rdf:li xml:lang="x-default">{&quot;a&quot;:1}</rdf:li></rdf:Alt></dc:description></x:xmpmeta>';
    const jpeg = await sharp(PICTURE.data, { raw: { width: 8, height: 8, channels: 3 } })
      .withXmp(xml)
      .jpeg()
      .toBuffer();
    const comment = Buffer.concat([
      jpeg.subarray(0, 2),
      Buffer.from([0xff, 0xfe, 0, 6]),
      Buffer.from(`${"hi 🐈".slice(0, 2)}!!`),
      jpeg.subarray(2),
    ]);
    expect(pictureTexts(comment)).toEqual([
      { keyword: "comment", text: "hi!!" },
      { keyword: "XMP description", text: '{"a":1}' },
    ]);
  });
});

/** A TIFF block of `entries` equal entries, whose value is the block itself. */
function exifOf({ tag, type, count }: { tag: number; type: number; count: number }, entries: number): Buffer {
  const block = Buffer.alloc(Math.max(14 + entries * 12, 8 + count), "a");
  block.write("II*\0", 0, "latin1");
  block.writeUInt32LE(8, 4);
  block.writeUInt16LE(entries, 8);
  for (let at = 10; at < 10 + entries * 12; at += 12) {
    block.writeUInt16LE(tag, at);
    block.writeUInt16LE(type, at + 2);
    block.writeUInt32LE(count, at + 4);
    block.writeUInt32LE(8, at + 8);
  }
  return block;
}

/** A TIFF block with one folder, and the user comment in the folder below. */
function userComment(order: "II" | "MM", text: Buffer): Buffer {
  const block = Buffer.alloc(64);
  const u16 = (value: number, at: number) =>
    order === "II" ? block.writeUInt16LE(value, at) : block.writeUInt16BE(value, at);
  const u32 = (value: number, at: number) =>
    order === "II" ? block.writeUInt32LE(value, at) : block.writeUInt32BE(value, at);
  block.write(order, 0, "latin1");
  u16(42, 2);
  u32(8, 4);
  const entry = (at: number, [tag, type, count, value]: readonly [number, number, number, number]) => {
    u16(tag, at);
    u16(type, at + 2);
    u32(count, at + 4);
    u32(value, at + 8);
  };
  u16(1, 8);
  entry(10, [0x8769, 4, 1, 26]);
  u16(1, 26);
  entry(28, [0x9286, 7, text.length + 8, 64]);
  return Buffer.concat([block, Buffer.from("UNICODE\0"), text]);
}

describe("hostile files", () => {
  const bomb = [
    "iTXt",
    Buffer.concat([Buffer.from("qedit\0\x01\0\0\0"), deflateSync(Buffer.alloc(64 * 1024 ** 2))]),
  ] as const;

  test("a compressed text that would fill the memory is left out, and those around it are read", () => {
    expect(pictureTexts(png(iTXt("a", "1"), bomb, iTXt("b", "2")))).toEqual([
      { keyword: "a", text: "1" },
      { keyword: "b", text: "2" },
    ]);
  });

  test.each(["zTXt", "iTXt", "XMP"])("100 compressed texts of 16 MB each are not all read: %s", (kind) => {
    const text = deflateSync(Buffer.alloc(16 * 1024 ** 2, "a"), { level: 9 });
    const head = { zTXt: "key\0\0", iTXt: "key\0\x01\0\0\0", XMP: "XML:com.adobe.xmp\0\x01\0\0\0" }[kind]!;
    const one = [kind === "zTXt" ? "zTXt" : "iTXt", Buffer.concat([Buffer.from(head), text])] as const;
    const spent = processorTime();
    const texts = pictureTexts(png(iTXt("qedit", "{}"), ...Array<typeof one>(100).fill(one)));
    expect(spent()).toBeLessThan(1000);
    expect(texts[0]).toEqual({ keyword: "qedit", text: "{}" });
    expect(texts.reduce((sum, each) => sum + each.text.length, 0)).toBeLessThanOrEqual(32 * 1024 ** 2 + 2);
  });

  test.each([
    ["60,000 entries with one text of 3 MB", 270, 2, 3 * 1024 ** 2],
    ["60,000 entries with one folder", 0x8769, 4, 1],
  ])("an EXIF block of %s takes no time", (_, tag, type, count) => {
    const block = exifOf({ tag, type, count }, 60_000);
    const spent = processorTime();
    const texts = pictureTexts(png(["eXIf", block]));
    expect(spent()).toBeLessThan(500);
    expect(texts.reduce((sum, each) => sum + each.text.length, 0)).toBeLessThanOrEqual(32 * 1024 ** 2);
  });

  test("a user comment of zeros takes no time", () => {
    const comment = Buffer.from(`${"\0".repeat(100_000)}x`, "utf16le");
    const spent = processorTime();
    expect(pictureTexts(png(["eXIf", userComment("II", comment)]))).toHaveLength(1);
    expect(spent()).toBeLessThan(500);
  });

  test("a length beyond the end stops the search", () => {
    const file = png(iTXt("a", "1"), iTXt("b", "2"));
    file.writeUInt32BE(0xffffffff, file.indexOf("b\0") - 8);
    expect(pictureTexts(file)).toEqual([{ keyword: "a", text: "1" }]);
  });

  test("every cut and every changed byte of a file is survived", async () => {
    const files = [
      png(iTXt("qedit", SHORT), ["eXIf", userComment("MM", Buffer.from("abc"))]),
      Buffer.from(await encodePicture(PICTURE, { format: "jpeg", description: SHORT })),
      Buffer.from(await encodePicture(PICTURE, { format: "webp", description: SHORT })),
    ];
    for (const file of files) {
      for (let at = 0; at < file.length; at++) {
        const changed = Buffer.from(file);
        changed[at] = 0xff;
        expect(() => pictureTexts(changed)).not.toThrow();
        expect(() => pictureTexts(file.subarray(0, at))).not.toThrow();
      }
    }
  });

  test("EXIF folders that point at themselves end", () => {
    const block = userComment("II", Buffer.from("abc"));
    block.writeUInt32LE(8, 18);
    expect(pictureTexts(png(["eXIf", block]))).toEqual([]);
  });
});

describe("what the decoder is given", () => {
  const block = exifOf({ tag: 0x8769, type: 4, count: 1 }, 60_000);
  const noise = { width: 8, height: 8, data: Uint8Array.from({ length: 192 }, (_, i) => (i * 89) % 256) };

  test("of PNG, WebP and AVIF with texts, EXIF and XMP is the picture alone, and it decodes to the same pixels", async () => {
    const raw = sharp(noise.data, { raw: { width: 8, height: 8, channels: 3 } });
    const described = raw.withExif({ IFD0: { ImageDescription: "a secret" } }).withXmp("<x>a secret</x>");
    for (const file of [
      await described.clone().png().toBuffer(),
      await described.clone().webp({ lossless: true }).toBuffer(),
      await described.clone().avif().toBuffer(),
    ]) {
      const lean = withoutTexts(file);
      expect(await sharp(lean).raw().toBuffer()).toEqual(await sharp(file).raw().toBuffer());
      expect((await sharp(lean).metadata()).xmp).toBeUndefined();
      expect((await sharp(lean).metadata()).exif?.includes("a secret") ?? false).toBe(false);
    }
  });

  test("keeps the orientation", async () => {
    const turned = sharp(noise.data, { raw: { width: 8, height: 8, channels: 3 } }).withMetadata({ orientation: 6 });
    for (const file of [await turned.clone().png().toBuffer(), await turned.clone().webp().toBuffer()])
      expect((await sharp(withoutTexts(file)).metadata()).orientation).toBe(6);
  });

  test("is ready at once for a file of 100 compressed texts or of an endless EXIF block", async () => {
    const text = deflateSync(Buffer.alloc(16 * 1024 ** 2, "a"), { level: 9 });
    const picture = Buffer.from(await encodePicture(noise, { format: "png" }));
    const bomb = png(...Array(100).fill(["zTXt", Buffer.concat([Buffer.from("key\0\0"), text])] as const), [
      "eXIf",
      block,
    ]);
    const file = Buffer.concat([picture.subarray(0, 33), bomb.subarray(8), picture.subarray(33)]);
    const spent = processorTime();
    expect([...(await readImage(file)).data]).toEqual([...noise.data]);
    expect(await readSize(file)).toEqual({ width: 8, height: 8 });
    expect(spent()).toBeLessThan(500);
  });

  test("is a damaged file as it is, from the damage on", async () => {
    const png = Buffer.from(await encodePicture(noise, { format: "png" }));
    const webp = Buffer.from(await encodePicture(noise, { format: "webp", description: SHORT }));
    for (const file of [png, webp]) {
      for (let at = 0; at < file.length; at++) {
        expect(() => withoutTexts(file.subarray(0, at))).not.toThrow();
        // A PNG without its last 12 bytes is whole.
        if (at < file.length - 13)
          await expect(readImage(file.subarray(0, at))).rejects.toThrow(/^Cannot (read|decode) /);
      }
    }
  });
});
