// What happens after decoding, on results that a good model could have given: photographs, edited in one place, zoomed and shifted.
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { driftRecord, driftText } from "../../src/edit/finish/drift-text.js";
import { checkFinish, finish } from "../../src/edit/finish/finish.js";
import { type Box, CHANNELS, crop, type Image, toBytes } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { encodePicture } from "../../src/image/io/write.js";
import { lanczos } from "../../src/image/resize/lanczos.js";
import { applySteps, resizeTo } from "../../src/image/resize/resize.js";
import { planSizes } from "../../src/image/resize/size-plan.js";
import type { DecodedPicture } from "../../src/stages/decode.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { movedPicture } from "../image/moved.js";
import { fixture } from "../support/golden.js";

const original = await readImage(fixture("images/astronaut.jpg"));
const rocket = await readImage(fixture("images/rocket.jpg"));
const PATCH = { x: 60, y: 300, width: 120, height: 110 };
const ORIGINALS = { pictures: [{ name: "astronaut.jpg", image: original, hash: "ab" }], mask: undefined };
const NONE = { pasteBack: false, feather: undefined, match: undefined, cropMask: false, maskMargin: undefined };

function edited(image: Image): Image {
  const data = Uint8Array.from(image.data);
  const patch = lanczos(rocket, PATCH);
  for (let row = 0; row < PATCH.height; row++) {
    data.set(
      patch.data.subarray(row * PATCH.width * CHANNELS, (row + 1) * PATCH.width * CHANNELS),
      ((PATCH.y + row) * image.width + PATCH.x) * CHANNELS,
    );
  }
  return { ...image, data };
}

/** A decoded picture as decode gives it, with the sizes that encode-image notes. */
function decoded(image: Image, isKept: boolean): DecodedPicture {
  const { target } = planSizes(
    [{ name: "astronaut.jpg", width: original.width, height: original.height }],
    isKept ? {} : { size: { width: image.width, height: image.height } },
  );
  const sizes = { target: { ...target }, images: [{ source: { width: original.width, height: original.height } }] };
  return {
    image,
    isDescribed: true,
    info: { settings: { decode: { keep_size: isKept } }, sizes, inputs: {}, weights: {} },
  };
}

const quiet = () => {};

test("the drift of an edit is told in words and numbers", async () => {
  const events: ProgressEvent[] = [];
  const { drift, image } = await finish(
    decoded(movedPicture(edited(original), { zoom: 1.003, x: 2.1, y: -4 }), true),
    ORIGINALS,
    NONE,
    (event) => void events.push(event),
  );
  expect(events).toMatchObject([
    { kind: "drift", text: expect.stringMatching(/^drift: 0\.\d+ % zoom, 2\.\d px right, [34]\.\d px up$/) },
  ]);
  expect(drift!.zoom).toBeCloseTo(1.003, 3);
  expect(driftRecord(drift)).toMatchObject({ zoom: expect.closeTo(1.003, 3), right: expect.closeTo(2.1, 0) });
  expect(image.width).toBe(512);
});

test("what did not drift is told to be none, and what cannot be found is not guessed", () => {
  expect(driftText({ zoom: 1.0002, x: 0.1, y: -0.1, agreement: 1 })).toBe("drift: none");
  expect(driftText({ zoom: 0.98, x: -0.3, y: 0, agreement: 1 })).toBe("drift: 2.0 % shrink, 0.3 px left");
  expect(driftText(undefined)).toMatch(/^drift: cannot tell/);
});

test("pasting back at picture 1's size gives its own pixels away from the edit, to the bit, though the result drifted", async () => {
  const { image, info } = await finish(
    decoded(movedPicture(edited(original), { zoom: 1.004, x: 2, y: 1 }), true),
    ORIGINALS,
    { ...NONE, pasteBack: true, feather: 6 },
    quiet,
  );
  const away = (i: number) =>
    Math.hypot(
      Math.max(PATCH.x - (i % 512), (i % 512) - PATCH.x - PATCH.width, 0),
      Math.max(PATCH.y - Math.floor(i / 512), Math.floor(i / 512) - PATCH.y - PATCH.height, 0),
    );
  const pixel = (picture: Pick<Image, "data">, i: number) =>
    [...picture.data.subarray(i * CHANNELS, (i + 1) * CHANNELS)].join();
  const changed = Array.from({ length: 512 * 512 }, (_, i) => i).filter(
    (i) => pixel(image as Image, i) !== pixel(original, i),
  );
  expect(changed.length).toBeGreaterThan(0.8 * PATCH.width * PATCH.height);
  expect(changed.filter((i) => away(i) > 25)).toEqual([]);
  // The edit itself stands where it would without drift.
  const inner = { x: PATCH.x + 10, y: PATCH.y + 10, width: PATCH.width - 20, height: PATCH.height - 20 };
  const [got, wanted] = [crop(image as Image, inner), crop(edited(original), inner)];
  expect(got.data.reduce((sum, value, i) => sum + Math.abs(value - wanted.data[i]!), 0) / got.data.length).toBeLessThan(
    8,
  );
  expect(info.settings["paste_back"]).toEqual({ version: 3, mask: false, feather: 6 });
});

test("pasting back at the model's size keeps picture 1 as the models were given it", async () => {
  const size = { width: 384, height: 320 };
  const { target } = planSizes([{ name: "a", width: 512, height: 512 }], { size });
  const given = applySteps(original, target.steps);
  const bytes = { ...size, data: given.data.map((value) => Math.round(value * 255)) };
  const result: Image = { ...size, data: Uint8Array.from(bytes.data) };
  result.data.fill(255, (100 * 384 + 100) * CHANNELS, (100 * 384 + 160) * CHANNELS);
  for (let row = 101; row < 160; row++)
    result.data.copyWithin((row * 384 + 100) * CHANNELS, (100 * 384 + 100) * CHANNELS, (100 * 384 + 160) * CHANNELS);
  const { image } = await finish(decoded(result, false), ORIGINALS, { ...NONE, pasteBack: true }, quiet);
  const corner = { x: 250, y: 200, width: 134, height: 120 };
  expect(
    Buffer.from(crop(image as Image, corner).data).equals(
      Buffer.from(Uint8Array.from(crop({ ...size, data: Uint8Array.from(bytes.data) }, corner).data)),
    ),
  ).toBe(true);
});

test.each([
  [8, false],
  [9, true],
  [127, true],
])("a mask whose brightest grey is %i is taken: %s, since greys from 9 on count in part", (level, isTaken) => {
  const data = new Uint8Array(original.data.length);
  data.fill(level, 300, 360);
  const mask = { name: "grey.png", image: { ...original, data }, hash: "cd" };
  const check = () => checkFinish({ ...ORIGINALS, mask }, { ...NONE, pasteBack: true });
  if (isTaken) check();
  else expect(check).toThrow("Cannot use grey.png as mask: it is black everywhere");
});

describe("a white mask", () => {
  const white = { ...original, data: new Uint8Array(original.data.length).fill(255) };
  const alpha = new Uint8Array(original.width * original.height).fill(255);
  const mask = { name: "white.png", image: white, hash: "cd" };
  const check = (more: object) =>
    checkFinish({ ...ORIGINALS, mask: { ...mask, ...more } }, { ...NONE, pasteBack: true });

  test("whose transparency alone is painted is refused, since that does not count", () => {
    expect(() => check({ alpha: Uint8Array.from(alpha).fill(0, 900, 990) })).toThrow(
      "Cannot use white.png as mask: it is white everywhere, and painted in its transparency alone, which does not count",
    );
  });

  test("that is opaque, or equally transparent everywhere, is taken", () => {
    check({});
    check({ alpha: Uint8Array.from(alpha).fill(128) });
  });

  test("with black in it is taken, whatever its transparency", () => {
    const data = Uint8Array.from(white.data).fill(0, 0, 30);
    check({ image: { ...white, data }, alpha: Uint8Array.from(alpha).fill(0, 900, 990) });
  });
});

/** A result of the cropped plan at picture 1's size, as decode gives it: what the models made in the box, its edge pixels repeated around. */
function cropped(inside: Image): { readonly picture: DecodedPicture; readonly box: Box } {
  const { target } = planSizes([{ name: "astronaut.jpg", ...SIZE }], { size: { width: 512, height: 480 } });
  const { box } = target;
  const image = resizeTo(crop(inside, box), original, box);
  const sizes = { target: { ...target }, images: [{ source: SIZE }] };
  const info = { settings: { decode: { keep_size: true } }, sizes, inputs: {}, weights: {} };
  return { picture: { image, isDescribed: true, info }, box };
}

const SIZE = { width: original.width, height: original.height };
const row = ({ data, width }: Image, y: number) => [...data.subarray(y * width * CHANNELS, (y + 1) * width * CHANNELS)];

test("cropped pixels stand where they were at picture 1's size, where the edge beside them was not changed", async () => {
  const { picture, box } = cropped(original);
  expect(box.height).toBe(480);
  const { image } = await finish(picture, ORIGINALS, NONE, quiet);
  for (const y of [0, box.y - 1, 511]) expect(row(image as Image, y)).toEqual(row(original, y));
});

test("cropped pixels do not stand out where the edge was changed: it is repeated", async () => {
  const inverted = { ...original, data: original.data.map((value) => 255 - value) };
  const { picture, box } = cropped(inverted);
  const { image } = await finish(picture, ORIGINALS, NONE, quiet);
  const same = row(image as Image, 0).filter((value, i) => value === row(inverted, box.y)[i]).length;
  expect(same / (512 * CHANNELS)).toBeGreaterThan(0.9);
});

test("drift is measured against all of picture 1: a crop that is laid over it is told", async () => {
  const size = { width: 512, height: 480 };
  const { target } = planSizes([{ name: "astronaut.jpg", ...SIZE }], { size });
  const image = toBytes(applySteps(original, target.steps), "round");
  const sizes = { target: { ...target }, images: [{ source: SIZE }] };
  const info = { settings: { decode: { keep_size: false } }, sizes, inputs: {}, weights: {} };
  const { drift } = await finish({ image, isDescribed: true, info }, ORIGINALS, NONE, quiet);
  // 512 rows of which 480 are left, over all of the width: about half of 6.7 % more.
  expect(drift!.zoom).toBeCloseTo(Math.sqrt(512 / 480), 3);
  expect(driftText(drift)).toMatch(/^drift: 3\.3 % zoom/);
});

describe("pasting back without a mask", () => {
  const whole = async (changed: (image: Image) => Image | Promise<Image>) => {
    const events: ProgressEvent[] = [];
    const result = await changed(original);
    const { image, info } = await finish(
      decoded(result, true),
      ORIGINALS,
      { ...NONE, pasteBack: true },
      (event) => void events.push(event),
    );
    return { image: image as Image, result, info, events };
  };
  const mapped = (change: (value: number, i: number) => number) => (image: Image) => ({
    ...image,
    data: image.data.map((value, i) => Math.min(Math.max(Math.round(change(value, i)), 0), 255)),
  });
  const blurredBy = (sigma: number) => async (image: Image) => {
    const { width, height } = image;
    return {
      width,
      height,
      data: await sharp(image.data, { raw: { width, height, channels: 3 } })
        .blur(sigma)
        .raw()
        .toBuffer(),
    };
  };

  test.each([
    ["a negative", mapped((value) => 255 - value)],
    ["a little warmer", mapped((value, i) => value + [12, 2, -10][i % 3]!)],
    ["darker", mapped((value) => value * 0.7)],
    ["sepia-like", mapped((value, i) => value * [1, 0.85, 0.6][i % 3]!)],
    ["blurred", blurredBy(3)],
    ["posterized", mapped((value) => Math.round(value / 64) * 64)],
    ["mirrored", (image: Image) => movedPicture(image, { zoom: -1, x: 0, y: 0 })],
    ["another picture", () => lanczos(rocket, SIZE)],
  ])("%s is left whole, and the reason is told", async (_, change) => {
    const { image, result, info, events } = await whole(change);
    expect(Buffer.from(image.data).equals(Buffer.from(result.data))).toBe(true);
    expect(events).toContainEqual({
      kind: "warning",
      text: expect.stringMatching(/^paste back: the edit changed the whole picture.*nothing was pasted back$/),
    });
    expect(info.settings["paste_back"]).toBeUndefined();
  });

  test("a part that changed is pasted, however it was encoded", async () => {
    const { events } = await whole(async (image) => readImage(await encodePicture(edited(image), { format: "jpeg" })));
    expect(events).toContainEqual({ kind: "note", text: expect.stringMatching(/^paste back: [\d.]+ % edited/) });
    expect(events.filter(({ kind }) => kind === "warning")).toEqual([]);
  });
});

test("around an opaque edit of a model that sees transparency, a transparent picture 1 stays transparent", async () => {
  const { width, height } = original;
  const alpha = Uint8Array.from({ length: width * height }, (_, at) => (at % width < 40 ? 0 : 255));
  const pictures = [{ ...ORIGINALS.pictures[0]!, alpha }];
  const picture = decoded(edited(original), true);
  const seen = { ...picture.info, settings: { ...picture.info.settings, encode_prompt: { family: "Qwen3-VL" } } };
  const settings = { ...NONE, pasteBack: true, feather: 6 };
  const painted = new Uint8Array(width * height * 3);
  for (let y = PATCH.y; y < PATCH.y + PATCH.height; y++)
    painted.fill(255, (y * width + PATCH.x) * 3, (y * width + PATCH.x + PATCH.width) * 3);
  const mask = { name: "mask.png", image: { width, height, data: painted }, hash: "cd" };
  const { image } = await finish({ ...picture, info: seen }, { pictures, mask }, settings, quiet);
  expect(image.channels).toBe(4);
  const at = (x: number, y: number) => [...image.data.subarray((y * width + x) * 4, (y * width + x) * 4 + 4)];
  expect(at(10, 10)[3]).toBe(0);
  expect(at(width - 10, 10)).toEqual([...original.data.subarray((10 * width + width - 10) * 3).subarray(0, 3), 255]);
  // A model of three channels never saw it.
  expect((await finish(picture, { pictures, mask }, settings, quiet)).image.channels).toBeUndefined();
});
