import { mkdtempSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { CHANNELS } from "../../src/image/image.js";
import { readImage, readPicture, readSize } from "../../src/image/io/read.js";
import { processorTime } from "../support/processor-time.js";
import { largestDifference } from "./compare.js";
import { TOLERANCES } from "./tolerances.js";

const ENCODINGS = new URL("../../fixtures/images/encodings/", import.meta.url);
interface Expected {
  readonly width: number;
  readonly height: number;
  readonly rgb: string;
}
const expected = JSON.parse(readFileSync(new URL("expected.json", ENCODINGS), "utf8")) as Record<string, Expected>;
const file = (name: string) => readFileSync(new URL(name, ENCODINGS));

test("a link to a device without an end is refused", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "qedit-endless-")), "picture.png");
  symlinkSync("/dev/zero", path);
  await expect(readImage(path)).rejects.toMatchObject({
    code: "QEDIT_E_IMAGE",
    message: expect.stringContaining("it is a device"),
  });
});

describe("readImage gives the bytes that ComfyUI's LoadImage gives", () => {
  test("of more than 30 encodings", () => expect(Object.keys(expected).length).toBeGreaterThan(30));

  test.each(Object.entries(expected))("for %s", async (name, { width, height, rgb }) => {
    const { image: converted, profile } = await readPicture(file(name));
    // LoadImage ignores profiles.
    const image = profile && "unconverted" in profile ? profile.unconverted : converted;
    expect([image.width, image.height]).toEqual([width, height]);
    expect(largestDifference(image.data, Buffer.from(rgb, "base64"))).toBe(TOLERANCES.exactBytes);
  });
});

test("readSize gives from the header the size that readImage gives", async () => {
  for (const [name, { width, height }] of Object.entries(expected))
    expect(await readSize(file(name), name)).toEqual({ width, height });
});

describe("readImage refuses in one line, as an image error", () => {
  const folder = mkdtempSync(join(tmpdir(), "qedit-read-"));

  test("a file that is not there", async () => {
    await refuses(join(folder, "none.png"), /none\.png: there is no such file$/);
  });

  test("a directory", async () => refuses(folder, /: it is a directory$/));

  test("an empty file", async () => {
    writeFileSync(join(folder, "empty.png"), "");
    await refuses(join(folder, "empty.png"), /empty\.png: the file is empty$/);
  });

  test("a text file", async () => {
    writeFileSync(join(folder, "text.jpg"), "This is not a picture.\n".repeat(20));
    await refuses(join(folder, "text.jpg"), /text\.jpg: not a picture that can be decoded/);
  });

  test("a vector drawing", async () => {
    await refuses(
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'),
      /svg is not supported/,
    );
  });

  test.each([
    "rgb.png",
    "baseline-420.jpg",
    "progressive.jpg",
    "lossy.webp",
    "lossless.webp",
    "transparent.gif",
    "rgb.tiff",
  ])("%s with its second half missing", async (name) => {
    const path = join(folder, name);
    writeFileSync(path, file(name));
    truncateSync(path, Math.floor(file(name).length * 0.55));
    await refuses(path, new RegExp(`${name}: `));
  });

  test("a picture of absurd dimensions, before decoding it", async () => {
    const spent = processorTime();
    await refuses(pngHeader(60_000, 60_000), /60000x60000 is more than 178956970 pixels$/);
    expect(spent()).toBeLessThan(1000);
  });
});

describe("a TIFF", () => {
  const REFUSED = [
    ["YCbCr", { photometric: 6 }, /its colours are YCbCr$/],
    ["YCbCr in a BigTIFF", { photometric: 6, isBig: true }, /its colours are YCbCr$/],
    ["L*a*b* of ICC", { photometric: 9 }, /its colours are ICC L\*a\*b\*$/],
    ["an unknown kind of colours", { photometric: 99 }, /its colours are of kind 99$/],
    ["32-bit integers", { bits: 32, format: 1 }, /its samples are of the type uint, of which it says no range$/],
    ["floating point", { bits: 32, format: 3 }, /its samples are of the type float, of which it says no range$/],
  ] as const;
  test.each(REFUSED)("in %s is refused, which would be taken for RGB from 0 to 255", async (_, options, message) => {
    await refuses(tiff(options), message);
  });

  test.each([{}, { isBig: true }])("in RGB is read: %j", async (options) => {
    expect([...(await readImage(tiff(options))).data.slice(0, 6)]).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

interface TiffForm {
  readonly photometric?: number;
  readonly bits?: number;
  /** 1: unsigned, 3: floating point. */
  readonly format?: number;
  readonly isBig?: boolean;
}

// 4x4 pixels of three samples, uncompressed, in one strip: their bytes count up.
function tiff({ photometric = 2, bits = 8, format = 1, isBig = false }: TiffForm): Buffer {
  const side = 4;
  const pixels = Buffer.from(Uint8Array.from({ length: (side * side * CHANNELS * bits) / 8 }, (_, i) => i));
  const tags = [
    ...[
      [256, side],
      [257, side],
      [258, bits],
      [259, 1],
      [262, photometric],
      [273, isBig ? 16 : 8],
    ],
    ...[
      [277, CHANNELS],
      [278, side],
      [279, pixels.length],
      [339, format],
    ],
  ];
  const start = isBig ? 16 : 8;
  const [countBytes, entryBytes] = isBig ? [8, 20] : [2, 12];
  const folder = Buffer.alloc(countBytes + tags.length * entryBytes + 8);
  folder.writeUInt16LE(tags.length, 0);
  for (const [i, [tag, value]] of tags.entries()) {
    const at = countBytes + i * entryBytes;
    folder.writeUInt16LE(tag!, at);
    folder.writeUInt16LE(3, at + 2);
    folder.writeUInt32LE(1, at + 4);
    folder.writeUInt32LE(value!, at + (isBig ? 12 : 8));
  }
  const header = Buffer.alloc(start);
  header.write("II", 0, "latin1");
  header.writeUInt16LE(isBig ? 43 : 42, 2);
  if (isBig) header.writeUInt16LE(8, 4);
  header.writeUInt32LE(start + pixels.length, isBig ? 8 : 4);
  return Buffer.concat([header, pixels, folder]);
}

async function refuses(source: string | Uint8Array, message: RegExp): Promise<void> {
  const error: unknown = await readImage(source).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: "QEDIT_E_IMAGE", message: expect.stringMatching(message) as string });
  expect((error as Error).message).not.toContain("\n");
}

function pngHeader(width: number, height: number): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const chunks = [chunk("IHDR", header), chunk("IDAT", deflateSync(Buffer.alloc(100))), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), ...chunks]);
}

function chunk(name: string, body: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(name), body]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, checksum]);
}
