import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { pictureStatistics } from "../../src/image/compare/statistics.js";
import { fromBytes, toFloat, toPlanes } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { encodePicture, formatOf } from "../../src/image/io/write.js";
import { tensor } from "../../src/std/tensor.js";
import { TOLERANCES } from "./tolerances.js";

const photograph = await readImage(fileURLToPath(new URL("../../fixtures/images/cat.jpg", import.meta.url)));

describe("encodePicture", () => {
  test("writes PNG without loss", async () => {
    const back = await readImage(await encodePicture(toFloat(photograph), { format: "png" }));
    expect(back.data).toEqual(photograph.data);
  });

  test("truncates as ComfyUI saves when asked to", async () => {
    const picture = { width: 1, height: 1, data: Float32Array.of(0.999, 0.5, 0.25) };
    expect([
      ...(await readImage(await encodePicture(picture, { format: "png", quantization: "truncate" }))).data,
    ]).toEqual([254, 127, 63]);
    expect([...(await readImage(await encodePicture(picture, { format: "png" }))).data]).toEqual([255, 128, 64]);
  });

  test.each(["jpeg", "webp"] as const)("writes %s close to the picture", async (format) => {
    const bytes = await encodePicture(photograph, { format });
    expect((await sharp(bytes).metadata()).format).toBe(format);
    const back = await readImage(bytes);
    const total = back.data.reduce((sum, value, i) => sum + Math.abs(value - (photograph.data[i] as number)), 0);
    expect(total / back.data.length).toBeLessThan(TOLERANCES.lossyMean);
  });

  const description = JSON.stringify({ prompt: 'Ein "großer" 猫 🐈', seed: 42 });

  test("carries a description in PNG as text that other programs read", async () => {
    const bytes = await encodePicture(photograph, { format: "png", description });
    expect((await sharp(bytes).metadata()).comments).toEqual([{ keyword: "qedit", text: description }]);
    expect((await readImage(bytes)).data).toEqual(photograph.data);
  });

  test.each(["jpeg", "webp"] as const)("carries a description in %s as EXIF", async (format) => {
    const { exif } = await sharp(await encodePicture(photograph, { format, description })).metadata();
    const text = exif?.toString("latin1") ?? "";
    const found = text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1);
    expect(JSON.parse(found)).toEqual(JSON.parse(description));
  });
});

test("formatOf knows the extensions in any case and refuses others with the list", () => {
  expect(["a.png", "b.c.JPG", "d.jpeg", "e.WebP"].map(formatOf)).toEqual(["png", "jpeg", "jpeg", "webp"]);
  expect(() => formatOf("out.tiff")).toThrow(
    expect.objectContaining({ code: "QEDIT_E_USAGE", hint: "End the name in .png, .jpg, .jpeg, .webp" }),
  );
  expect(() => formatOf("out")).toThrow("found no extension");
});

test("planes hold the channels one after the other and come back as they were", () => {
  const planes = toPlanes({ width: 2, height: 1, data: Uint8Array.of(255, 51, 0, 102, 204, 153) });
  expect(planes.shape).toEqual([1, 3, 1, 2]);
  expect([...planes.data]).toEqual([1, 0.4, 0.2, 0.8, 0, 0.6].map(Math.fround));
});

test("a tensor of bytes is a picture as it lies", () => {
  const data = Uint8Array.of(255, 51, 0, 102, 204, 153);
  expect(fromBytes(tensor("uint8", [1, 1, 2, 3], data))).toEqual({ width: 2, height: 1, data });
  expect(() => fromBytes(tensor("uint8", [1, 3, 1, 2], data))).toThrow("wanted [1, height, width, 3]");
});

describe("pictureStatistics", () => {
  const ofRed = (...bytes: number[]) => pictureStatistics(Uint8Array.from(bytes), { channel: 0, channels: 3 });

  test("passes a photograph", () => {
    for (const channel of [0, 1, 2])
      expect(pictureStatistics(photograph.data, { channel, channels: 3 }).flat).toBe(false);
  });

  test("finds a flat channel, also on the edge between two levels", () => {
    expect(ofRed(7, 0, 0, 7, 90, 200)).toEqual({ min: 7, max: 7, flat: true });
    expect(ofRed(7, 0, 0, 8, 90, 200).flat).toBe(true);
    expect(ofRed(7, 0, 0, 9, 90, 200)).toEqual({ min: 7, max: 9, flat: false });
  });
});
