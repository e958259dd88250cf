import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Size } from "../../src/image/image.js";
import * as sizes from "../../src/image/resize/sizes.js";

interface Expected {
  readonly source: [number, number];
  readonly totalPixels: [number, number];
  readonly plusVision: [number, number];
  readonly smartResize: [number, number];
  readonly plusReference: [number, number];
  readonly kontext: [number, number];
  readonly kontextBox: [number, number, number, number];
}
const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/images/golden/sizes.json", import.meta.url), "utf8"),
) as Expected[];
const size = ([width, height]: readonly [number, number]) => ({ width, height });

describe("the nodes' sizes equal Python's arithmetic", () => {
  test("on more than 200 sizes", () => expect(golden.length).toBeGreaterThan(200));

  test.each([
    ["totalPixels", (source: Size) => sizes.totalPixelsSize(source, 1)],
    ["plusVision", sizes.plusVisionSize],
    ["plusReference", sizes.plusReferenceSize],
    ["kontext", sizes.kontextSize],
  ] as const)("%s", (name, compute) => {
    for (const expected of golden)
      expect({ source: expected.source, ...compute(size(expected.source)) }).toEqual({
        source: expected.source,
        ...size(expected[name]),
      });
  });

  test("smart resize, of the size the node hands over", () => {
    for (const { plusVision, smartResize } of golden)
      expect(sizes.smartResize(size(plusVision), 28)).toEqual(size(smartResize));
  });

  test("the centre crop in front of a Kontext size", () => {
    for (const { source, kontext, kontextBox } of golden) {
      const [x, y, width, height] = kontextBox;
      expect(sizes.upscaleBox(size(source), size(kontext))).toEqual({ x, y, width, height });
    }
  });
});

// width, height, megapixels and resolution_steps to width and height: the node's own lines in Python
test.each([
  [451, 300, 1, 16, 1248, 832],
  [240, 427, 1, 8, 768, 1368],
  [1000, 333, 0.7, 32, 1472, 480],
  [451, 300, 0.37, 1, 764, 508],
  [1920, 1080, 1, 112, 1344, 784],
  [337, 451, 0.333, 7, 511, 686],
])("%ix%i at %d megapixels in steps of %i is %ix%i", (width, height, megapixels, steps, ...wanted) => {
  expect(sizes.totalPixelsSize({ width, height }, megapixels, steps)).toEqual(size(wanted));
});

test("smart resize enlarges what is too small and shrinks what is too large", () => {
  expect(sizes.smartResize({ width: 20, height: 20 }, 28)).toEqual({ width: 56, height: 56 });
  const { width, height } = sizes.smartResize({ width: 8000, height: 4000 }, 28);
  expect(width * height).toBeLessThanOrEqual(12_845_056);
  expect([width % 28, height % 28]).toEqual([0, 0]);
});

test("the vision size in one step ends where the nodes' two steps end", () => {
  for (const { source, smartResize } of golden) {
    const direct = sizes.visionSize(size(source), 28);
    const [width, height] = smartResize;
    // Between the steps the nodes round to whole pixels: at a half multiple of 28 that can tip a side to the other neighbour.
    expect([0, 28]).toContain(Math.abs(direct.width - width) + Math.abs(direct.height - height));
  }
});

describe("bestSize", () => {
  test.each([
    [
      [1024, 1024],
      [1024, 1024],
    ],
    [
      [4032, 3024],
      [1152, 864],
    ],
    [
      [1920, 1080],
      [1360, 768],
    ],
    [
      [1080, 1920],
      [768, 1360],
    ],
    [
      [6000, 4000],
      [1248, 832],
    ],
    [
      [512, 512],
      [1024, 1024],
    ],
  ] as const)("turns %s into %s at one megapixel", (source, expected) => {
    expect(sizes.bestSize(size(source), sizes.MEGAPIXEL, 16)).toEqual(size(expected));
  });

  test("keeps area within 12 % and aspect within 1 % for every shape up to 3 to 1 at one megapixel", () => {
    for (const { source } of golden) {
      const [width, height] = source;
      if (Math.max(width / height, height / width) > 3) continue;
      const best = sizes.bestSize(size(source), sizes.MEGAPIXEL, 16);
      expect(Math.abs((best.width * best.height) / sizes.MEGAPIXEL - 1)).toBeLessThan(0.12);
      expect(Math.abs(best.width / best.height / (width / height) - 1)).toBeLessThan(0.01);
      expect([best.width % 16, best.height % 16]).toEqual([0, 0]);
    }
  });

  test("treats a picture and its mirror along the diagonal alike", () => {
    for (const { source } of golden) {
      const [width, height] = source;
      const [one, other] = [
        sizes.bestSize({ width, height }, 300_000, 16),
        sizes.bestSize({ width: height, height: width }, 300_000, 16),
      ];
      expect([one.width, one.height]).toEqual([other.height, other.width]);
    }
  });

  test("goes down to 16 x 16", () => {
    expect(sizes.bestSize({ width: 512, height: 512 }, 256, 16)).toEqual({ width: 16, height: 16 });
    expect(sizes.bestSize({ width: 451, height: 300 }, 256, 16)).toEqual({ width: 32, height: 16 });
  });
});
