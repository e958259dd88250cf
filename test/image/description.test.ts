import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { pictureTexts } from "../../src/image/io/description.js";
import { encodePicture } from "../../src/image/io/write.js";

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
