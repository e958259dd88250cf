import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { measureDrift } from "../../src/image/compare/drift.js";
import { CHANNELS, crop, type Image } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { lanczos } from "../../src/image/resize/lanczos.js";
import { fixture } from "../support/golden.js";
import { processorTime } from "../support/processor-time.js";
import { movedPicture } from "./moved.js";
import { TOLERANCES } from "./tolerances.js";

const astronaut = await readImage(fixture("images/astronaut.jpg"));
const cat = await readImage(fixture("images/cat.jpg"));
const rocket = await readImage(fixture("images/rocket.jpg"));

const MOVES = [
  { zoom: 1, x: 0, y: 0 },
  { zoom: 1.003, x: 2.1, y: -0.4 },
  { zoom: 0.985, x: -6, y: 3.3 },
  { zoom: 1.04, x: 12, y: -9 },
  { zoom: 1, x: 0.5, y: 0.25 },
];

function expectDrift(result: Image, original: Image, { zoom, x, y }: { zoom: number; x: number; y: number }): void {
  const drift = measureDrift(result, original)!;
  expect(Math.abs(drift.zoom - zoom)).toBeLessThan(TOLERANCES.driftZoom);
  expect(Math.max(Math.abs(drift.x - x), Math.abs(drift.y - y))).toBeLessThan(TOLERANCES.driftPixels);
}

/** Another picture pasted over the left upper part, as large as share of each side. */
function edited(image: Image, other: Image, share: number): Image {
  const data = Uint8Array.from(image.data);
  const patch = lanczos(other, { width: Math.round(image.width * share), height: Math.round(image.height * share) });
  for (let row = 0; row < patch.height; row++) {
    data.set(
      patch.data.subarray(row * patch.width * CHANNELS, (row + 1) * patch.width * CHANNELS),
      ((row + 8) * image.width + 8) * CHANNELS,
    );
  }
  return { ...image, data };
}

const mapped = (image: Image, change: (value: number) => number): Image => ({ ...image, data: image.data.map(change) });

describe.each([
  ["astronaut", astronaut],
  ["cat", cat],
  ["rocket", rocket],
])("of the %s", (_, original) => {
  test.each(MOVES)("a known zoom and shift is found: %j", (move) => {
    expectDrift(movedPicture(original, move), original, move);
  });
});

describe("an edit that zoomed and shifted too", () => {
  const move = MOVES[2]!;
  const moved = movedPicture(astronaut, move);

  test.each([0.3, 0.5, 0.7])("is seen through what was pasted over %d of each side", (share) => {
    expectDrift(edited(moved, rocket, share), astronaut, move);
  });

  test("is seen after inverting, darkening and taking the colours", () => {
    const grey = mapped(moved, (value) => value);
    for (let i = 0; i < grey.data.length; i += CHANNELS) grey.data.fill(moved.data[i + 1]!, i, i + CHANNELS);
    for (const result of [mapped(moved, (value) => 255 - value), mapped(moved, (value) => value ** 2 / 400), grey])
      expectDrift(result, astronaut, move);
  });

  test("is seen after a poor JPEG and a blur", async () => {
    const raw = { raw: { width: moved.width, height: moved.height, channels: CHANNELS } } as const;
    const poor = await readImage(await sharp(moved.data, raw).blur(1.2).jpeg({ quality: 60 }).toBuffer());
    expectDrift(poor, astronaut, move);
  });
});

test("sizes may differ: the drift is in pixels of the result", () => {
  const large = lanczos(movedPicture(astronaut, { zoom: 1.01, x: 3, y: -2 }), { width: 1024, height: 1024 });
  expectDrift(large, astronaut, { zoom: 1.01, x: 6, y: -4 });
  expectDrift(lanczos(astronaut, { width: 256, height: 256 }), lanczos(astronaut, { width: 1600, height: 1600 }), {
    zoom: 1,
    x: 0,
    y: 0,
  });
});

test("a result that shows a part of the original is measured against that part", () => {
  const box = { x: 40, y: 0, width: 400, height: 300 };
  const drift = measureDrift(lanczos(crop(cat, { ...box, width: 400 }), { width: 384, height: 288 }), cat, {
    seen: box,
  })!;
  expect(Math.abs(drift.zoom - 1)).toBeLessThan(TOLERANCES.driftZoom);
  expect(Math.max(Math.abs(drift.x), Math.abs(drift.y))).toBeLessThan(TOLERANCES.driftPixels);
});

describe("no drift is given", () => {
  const noise = {
    width: 512,
    height: 512,
    data: Uint8Array.from({ length: 512 * 512 * CHANNELS }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 13) & 255),
  };

  test.each<[string, Image, Image]>([
    ["another picture", cat, astronaut],
    ["noise", noise, astronaut],
    ["one colour", mapped(astronaut, () => 100), astronaut],
    ["nearly no pixels", lanczos(cat, { width: 8, height: 8 }), cat],
    ["one pixel", lanczos(cat, { width: 1, height: 1 }), cat],
  ])("of %s", (_, result, original) => {
    expect(measureDrift(result, original)).toBeUndefined();
  });

  test("of noise as smooth as a photograph", async () => {
    const raw = { raw: { width: 512, height: 512, channels: CHANNELS } } as const;
    const smooth = await readImage(await sharp(noise.data, raw).blur(6).normalise().png().toBuffer());
    expect(measureDrift(smooth, astronaut)).toBeUndefined();
  });

  // Smaller sides than a block, and planes of which nothing is left when they are halved.
  test.each([
    [1, 1],
    [5000, 1],
    [1, 5000],
    [4096, 16],
    [16, 4096],
    [513, 23],
    [24, 24],
  ])("of a picture of %i × %i pixels", (width, height) => {
    const size = { width, height };
    expect(measureDrift(lanczos(cat, size), cat)).toBeUndefined();
    expect(measureDrift(lanczos(cat, size), lanczos(cat, size))).toBeUndefined();
  });
});

test("a megapixel takes well under a second", () => {
  const large = lanczos(astronaut, { width: 1024, height: 1024 });
  measureDrift(large, large);
  const spent = processorTime();
  measureDrift(large, large);
  expect(spent()).toBeLessThan(600);
});
