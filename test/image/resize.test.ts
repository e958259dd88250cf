import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { crop, type Image, toBytes, toFloat } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { applySteps, type ResizeMethod, resize, resizeTo } from "../../src/image/resize/resize.js";
import { processorTime } from "../support/processor-time.js";
import { floats, largestDifference } from "./compare.js";
import { TOLERANCES } from "./tolerances.js";

interface Case {
  readonly method: ResizeMethod;
  readonly width: number;
  readonly height: number;
  readonly data: string;
}
const IMAGES = new URL("../../fixtures/images/", import.meta.url);
const golden = <T>(name: string) => JSON.parse(readFileSync(new URL(`golden/${name}.json`, IMAGES), "utf8")) as T;
const { width, height, source, cases } = golden<{ width: number; height: number; source: string; cases: Case[] }>(
  "resizes",
);
const picture: Image = { width, height, data: Buffer.from(source, "base64") };

const LIMITS: Record<ResizeMethod, number> = {
  lanczos: TOLERANCES.exactBytes,
  area: TOLERANCES.area,
  bilinear: TOLERANCES.bilinear,
  bicubic: TOLERANCES.bicubic,
  "nearest-exact": TOLERANCES.nearest,
};

describe("resize equals its reference", () => {
  test.each(cases)("$method to $width x $height", ({ method, data, ...size }) => {
    const result = resize(picture, size, method);
    const reference = method === "lanczos" ? Buffer.from(data, "base64") : floats(data);
    const values = result.data instanceof Uint8Array && method !== "lanczos" ? toFloat(result).data : result.data;
    expect(largestDifference(values, reference)).toBeLessThanOrEqual(LIMITS[method]);
  });

  const rgba = golden<{ source: string; cases: Omit<Case, "method">[] }>("rgba-resizes");
  test.each(rgba.cases)("lanczos of a picture with alpha to $width x $height, bit for bit", ({ data, ...size }) => {
    const transparent: Image = { width, height, channels: 4, data: Buffer.from(rgba.source, "base64") };
    const result = resize(transparent, size, "lanczos");
    expect(result).toMatchObject({ ...size, channels: 4 });
    expect(largestDifference(result.data, Buffer.from(data, "base64"))).toBe(0);
  });

  test.each(golden<{ name: string; width: number; height: number; sha256: string }[]>("photographs"))(
    "lanczos of $name to $width x $height, bit for bit",
    async ({ name, sha256, ...size }) => {
      const photograph = await readImage(fileURLToPath(new URL(name, IMAGES)));
      const { data } = resize(photograph, size, "lanczos");
      expect(createHash("sha256").update(data).digest("hex")).toBe(sha256);
    },
  );
});

test("lanczos brings 12 megapixels to one in well under a second", () => {
  const large: Image = {
    width: 4032,
    height: 3024,
    data: new Uint8Array(4032 * 3024 * 3).map((_, i) => (i * 7) % 251),
  };
  const spent = processorTime();
  resize(large, { width: 1152, height: 864 }, "lanczos");
  // About 0.5 s on one core; the rest is room for a busy machine.
  expect(spent()).toBeLessThan(2000);
});

test("lanczos truncates floats to bytes first, and a picture from bytes survives that", () => {
  const restored = resize(toFloat(picture), picture, "lanczos");
  expect(largestDifference(restored.data, picture.data)).toBe(TOLERANCES.exactBytes);
});

test("every level of 8 bits survives floats in both quantizations", () => {
  const levels: Image = { width: 256, height: 1, data: Uint8Array.from({ length: 768 }, (_, i) => i % 256) };
  expect(toBytes(toFloat(levels), "truncate").data).toEqual(levels.data);
  expect(toBytes(toFloat(levels), "round").data).toEqual(levels.data);
});

test("quantization rounds or truncates, clips, and makes NaN black", () => {
  const data = Float32Array.of(0.9999, 1.5, -0.5, NaN, 0.5, 0.002);
  expect([...toBytes({ width: 2, height: 1, data }, "truncate").data]).toEqual([254, 255, 0, 0, 127, 0]);
  expect([...toBytes({ width: 2, height: 1, data }, "round").data]).toEqual([255, 255, 0, 0, 128, 1]);
});

test("crop cuts exactly the box, and refuses a box outside", () => {
  const part = crop(picture, { x: 5, y: 3, width: 2, height: 1 });
  expect([...part.data]).toEqual([...picture.data.subarray((3 * 37 + 5) * 3, (3 * 37 + 7) * 3)]);
  expect(() => crop(picture, { x: 36, y: 0, width: 2, height: 1 })).toThrow("reaches outside");
});

test("steps are done in order", () => {
  const box = { x: 4, y: 2, width: 20, height: 18 };
  const size = { width: 9, height: 7 };
  const result = applySteps(picture, [
    { kind: "crop", box },
    { kind: "resize", size, method: "area" },
  ]);
  expect(result).toEqual(resize(crop(picture, box), size, "area"));
});

test("no steps only divide by 255", () => {
  expect(applySteps(picture, []).data[4]).toBe(Math.fround((picture.data[4] as number) / 255));
});

test("resizeTo lays the result over the box it came from and repeats its edges outside", () => {
  const whole = resizeTo(picture, { width: 41, height: 29 }, { x: 2, y: 0, width: 37, height: 29 });
  expect(crop(whole, { x: 2, y: 0, width: 37, height: 29 }).data).toEqual(new Uint8Array(picture.data));
  for (const x of [0, 1])
    expect(crop(whole, { x, y: 7, width: 1, height: 1 }).data).toEqual(
      crop(whole, { x: 2, y: 7, width: 1, height: 1 }).data,
    );
  expect(crop(whole, { x: 40, y: 0, width: 1, height: 1 }).data).toEqual(
    crop(whole, { x: 38, y: 0, width: 1, height: 1 }).data,
  );
});

test("resizeTo without a box gives exactly the size", () => {
  expect(resizeTo(toFloat(picture), { width: 50, height: 31 })).toMatchObject({ width: 50, height: 31 });
});
