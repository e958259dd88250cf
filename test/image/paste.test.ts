import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CHANNELS, type Image } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { encodePicture } from "../../src/image/io/write.js";
import { changeOf } from "../../src/image/paste/change.js";
import { dilated, distanceRows, eroded, type Mask } from "../../src/image/paste/distance.js";
import { levelsAfter, maskLevels } from "../../src/image/paste/mask-levels.js";
import { type Alpha, alphaAround, alphaOfLevels, pasted, withOwnRim } from "../../src/image/paste/paste.js";
import { withoutSpecks } from "../../src/image/paste/specks.js";
import { lanczos } from "../../src/image/resize/lanczos.js";
import { isVisible, straightened } from "../../src/image/resize/straighten.js";
import { fixture, RUN_TYPESCRIPT } from "../support/golden.js";
import { movedPicture } from "./moved.js";

const cat = await readImage(fixture("images/cat.jpg"));
const rocket = await readImage(fixture("images/rocket.jpg"));
const EDIT = { x: 150, y: 60, width: 120, height: 100 };
const WHOLE = { x: 0, y: 0, width: cat.width, height: cat.height };
const FEATHER = 6;

/** The rocket pasted over a part of a picture. */
function edited(image: Image): Image {
  const data = Uint8Array.from(image.data);
  const patch = lanczos(rocket, EDIT);
  for (let row = 0; row < EDIT.height; row++) {
    data.set(
      patch.data.subarray(row * EDIT.width * CHANNELS, (row + 1) * EDIT.width * CHANNELS),
      ((EDIT.y + row) * image.width + EDIT.x) * CHANNELS,
    );
  }
  return { ...image, data };
}

/** How far a pixel lies from the edit, pixels. */
function away(index: number, width: number): number {
  const [x, y] = [index % width, Math.floor(index / width)];
  return Math.hypot(
    Math.max(EDIT.x - x, x - EDIT.x - EDIT.width + 1, 0),
    Math.max(EDIT.y - y, y - EDIT.y - EDIT.height + 1, 0),
  );
}

const pixel = ({ data }: Image, index: number) => [...data.subarray(index * CHANNELS, (index + 1) * CHANNELS)];

/** All rows, one after the other: they are given in the same memory. */
const flat = (rows: Iterable<Float32Array>) => Array.from(rows, (row) => [...row]).flat();
const alphaValues = (alpha: Alpha) => flat(alpha.rows);
const share = (alpha: Alpha) => alphaValues(alpha).filter((value) => value > 0).length / (alpha.width * alpha.height);
const over = { at: { x: 0, y: 0 }, box: WHOLE };

test.each([Infinity, 3.5, 2, 0])("distances are exact up to %d", (most) => {
  const [width, height] = [13, 9];
  const data = Uint8Array.from({ length: width * height }, (_, i) => Number((i * 7919) % 23 === 0));
  const inside = [...data].flatMap((value, i) => (value === 1 ? [i] : []));
  const wanted = [...data].map((_, i) =>
    Math.min(
      ...inside.map((j) => Math.hypot((i % width) - (j % width), Math.floor(i / width) - Math.floor(j / width))),
    ),
  );
  const upTo = (distances: number[]) => distances.map((distance) => (distance > most ? Infinity : distance));
  expect(upTo(flat(distanceRows({ width, height, data }, 1, most)))).toEqual(upTo(wanted.map(Math.fround)));
});

test("growing and shrinking close gaps, and specks go", () => {
  const row = (text: string) => ({ width: text.length, height: 1, data: Uint8Array.from(text, Number) });
  expect(eroded(dilated(row("00110110000100"), 1), 1)).toEqual(row("00111110000100"));
  expect(withoutSpecks(row("0111110000100"), 2)).toEqual(row("0111110000000"));
});

// Node ends where a list is longer than 134 million; these have nine million, and a heap that holds no list of them.
test("masks of large pictures make no lists of their pixels", () => {
  const module = (name: string) => JSON.stringify(new URL(`../../src/image/paste/${name}.ts`, import.meta.url).href);
  const work = `
    const { dilated, eroded } = await import(${module("distance")});
    const { withoutSpecks } = await import(${module("specks")});
    const mask = { width: 3000, height: 3000, data: new Uint8Array(9e6).fill(1) };
    const made = eroded(dilated(withoutSpecks(mask, 2), 3), 3);
    process.stdout.write(String(made.data.every((value) => value === 1)));`;
  const node = ["--max-old-space-size=48", "--import", RUN_TYPESCRIPT, "--input-type=module", "-e", work];
  expect(execFileSync(process.execPath, node, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })).toBe("true");
});

describe("the detected change", () => {
  test("covers the edit and little else, through what JPEG changes everywhere", async () => {
    const result = await readImage(await encodePicture(edited(cat), { format: "jpeg" }));
    const { mask, isLocal } = await changeOf(result, cat);
    expect(isLocal).toBe(true);
    const missed = [...mask.data].filter((value, i) => value === 0 && away(i, cat.width) === 0).length;
    const beyond = [...mask.data].filter((value, i) => value === 1 && away(i, cat.width) > 8).length;
    expect(missed / (EDIT.width * EDIT.height)).toBeLessThan(0.1);
    expect(beyond).toBe(0);
  });

  test("is nothing between equal pictures, and nearly everything between different ones", async () => {
    expect(share(alphaAround((await changeOf(cat, cat)).mask, FEATHER))).toBe(0);
    const other = lanczos(rocket, cat);
    expect(share(alphaAround((await changeOf(other, cat)).mask, FEATHER))).toBeGreaterThan(0.7);
  });

  test("leaves the original's pixels away from it, to the bit, and the result's inside", async () => {
    const result = await readImage(await encodePicture(edited(cat), { format: "jpeg" }));
    const alpha = alphaAround((await changeOf(result, cat)).mask, FEATHER);
    const { image: picture } = pasted(result, cat, { ...over, alpha });
    const same = (a: Image, index: number) => pixel(picture, index).join() === pixel(a, index).join();
    const indexes = Array.from({ length: cat.width * cat.height }, (_, i) => i);
    expect(indexes.filter((i) => away(i, cat.width) > 8 + FEATHER + 2).every((i) => same(cat, i))).toBe(true);
    const centre = (EDIT.y + EDIT.height / 2) * cat.width + EDIT.x + EDIT.width / 2;
    expect(same(result, centre)).toBe(true);
  });
});

describe("a mask picture", () => {
  const grey = (levels: readonly number[]): Image => ({
    width: levels.length,
    height: 1,
    data: Uint8Array.from(levels.flatMap((level) => [level, level, level])),
  });

  test("keeps nothing of the result in black, all of it in white, and fades inside", () => {
    const alpha = alphaValues(alphaOfLevels(maskLevels(grey([0, 3, 255, 255, 255, 255, 250, 0])), 1));
    expect(alpha).toEqual([0, 0, 0.5, 1, 1, 1, 0.5, 0]);
  });

  test("counts greys in part", () => {
    expect(alphaValues(alphaOfLevels(maskLevels(grey([0, 51, 102])), 0))).toEqual([0, 0.2, 0.4].map(Math.fround));
  });

  test("cannot bring in what lies outside the part that was edited", () => {
    const [one, two] = [grey([10, 20, 30]), grey([40, 50, 60])];
    const white = () => alphaOfLevels(maskLevels(grey([255, 255, 255])), 0);
    const box = { x: 1, y: 0, width: 1, height: 1 };
    const { image, changed } = pasted(two, one, { alpha: white(), at: { x: 0, y: 0 }, box });
    expect([pixel(image, 0), pixel(image, 1), pixel(image, 2)]).toEqual([
      [10, 10, 10],
      [50, 50, 50],
      [30, 30, 30],
    ]);
    expect(changed).toBe(1);
  });

  test.each([
    [0.5, 1],
    [2, 2],
    [1.7, 1.3],
    [0.3, 3.1],
    [1, 1],
    [3.3, 0.4],
  ])(
    "resized by %d and %d is black wherever all of a pixel's area is, white where it is, and nothing rings",
    (x, y) => {
      const mask = { width: 41, height: 29, data: new Uint8Array(41 * 29) };
      for (let row = 7; row < 19; row++) mask.data.fill(255, row * 41 + 11, row * 41 + 30);
      const size = { width: Math.round(41 * x), height: Math.round(29 * y) };
      const made = levelsAfter(mask, { size, steps: [], box: { x: 0, y: 0, ...size } });
      const touched = (at: number, from: number, to: number): [number, number] => [
        Math.floor((at * from) / to),
        Math.ceil(((at + 1) * from) / to),
      ];
      for (let row = 0; row < size.height; row++) {
        for (let column = 0; column < size.width; column++) {
          const [left, right] = touched(column, 41, size.width);
          const [top, bottom] = touched(row, 29, size.height);
          const level = made.data[row * size.width + column]!;
          if (right <= 11 || left >= 30 || bottom <= 7 || top >= 19) expect(level).toBe(0);
          else expect(level).toBeGreaterThan(0);
          if (left > 11 && right < 30 && top > 7 && bottom < 19) expect(level).toBe(255);
        }
      }
    },
  );

  test("a part of a resized mask is that part of all of it, through the steps of a picture", () => {
    const mask = maskLevels(lanczos(cat, { width: 130, height: 87 }));
    const size = { width: 77, height: 101 };
    const whole = levelsAfter(mask, { size, steps: [], box: { x: 0, y: 0, ...size } });
    const box = { x: 13, y: 40, width: 30, height: 22 };
    const part = levelsAfter(mask, { size, steps: [], box });
    for (let row = 0; row < box.height; row++) {
      const at = (box.y + row) * size.width + box.x;
      expect(part.data.subarray(row * box.width, (row + 1) * box.width)).toEqual(
        whole.data.subarray(at, at + box.width),
      );
    }
    const steps = [{ kind: "crop", box }] as const;
    expect(levelsAfter(mask, { size, steps, box: { ...box, x: 0, y: 0 } })).toEqual(part);
  });
});

// What the same takes of all of a picture at a time.
describe("by rows and bands", () => {
  const dots = (width: number, height: number, every: number): Mask => ({
    width,
    height,
    data: Uint8Array.from({ length: width * height }, (_, i) => Number((Math.imul(i, 2654435761) >>> 8) % every === 0)),
  });

  test.each([2, 5, 40])("distances of a mask larger than a band, one pixel of %d", (every) => {
    const mask = dots(37, 700, every);
    const squares = (x: number, y: number) => {
      let least = Infinity;
      for (let row = Math.max(y - 9, 0); row < Math.min(y + 10, 700); row++)
        for (let column = 0; column < 37; column++)
          if (mask.data[row * 37 + column] === 1) least = Math.min(least, (column - x) ** 2 + (row - y) ** 2);
      return least;
    };
    const wanted = Array.from(mask.data, (_, i) => Math.sqrt(squares(i % 37, Math.floor(i / 37))));
    const upTo = (distances: number[]) => distances.map((distance) => (distance > 9 ? Infinity : distance));
    expect(upTo(flat(distanceRows(mask, 1, 9)))).toEqual(upTo(wanted.map(Math.fround)));
  });

  test.each([2, 3])("specks of a mask, one pixel of %d", (every) => {
    const mask = dots(61, 47, every);
    const wanted = Uint8Array.from(mask.data);
    const seen = new Set<number>();
    for (let start = 0; start < wanted.length; start++) {
      if (mask.data[start] === 0 || seen.has(start)) continue;
      const part = [start];
      seen.add(start);
      for (const at of part)
        for (const next of [at % 61 > 0 ? at - 1 : at, at % 61 < 60 ? at + 1 : at, at - 61, at + 61])
          if (mask.data[next] === 1 && !seen.has(next)) part.push(next) && seen.add(next);
      if (part.length < 6) for (const at of part) wanted[at] = 0;
    }
    expect(withoutSpecks(mask, 6).data).toEqual(wanted);
  });

  // As before there were bands: hashes of what 0.1.0 made of the same.
  test("a change in a picture of several bands, and its rim", async () => {
    const size = { width: 500, height: 1300 };
    const [before, after] = [lanczos(cat, size), edited(lanczos(cat, size))];
    const hash = (data: Uint8Array) => createHash("sha256").update(data).digest("hex").slice(0, 16);
    expect(hash((await changeOf(after, before)).mask.data)).toBe("8ea7498c3b7c37e6");
    const box = { x: 6, y: 11, width: 480, height: 1270 };
    const inverted = { ...before, data: before.data.map((value, i) => (i % 5000 < 700 ? 255 - value : value)) };
    expect(hash((await withOwnRim(inverted, before, box)).data)).toBe("91e2f4aba7e5f725");
    expect(hash(straightened(before, { zoom: 1.013, x: 3.3, y: -1.6 }).data)).toBe("6d92c750b5f988ca");
  });
});

describe("straightened", () => {
  test("takes a drift back", () => {
    const drift = { zoom: 1.01, x: 3.3, y: -1.6 };
    const back = straightened(movedPicture(cat, drift), drift);
    const mean = back.data.reduce((sum, value, i) => sum + Math.abs(value - cat.data[i]!), 0) / back.data.length;
    const before =
      movedPicture(cat, drift).data.reduce((sum, value, i) => sum + Math.abs(value - cat.data[i]!), 0) /
      back.data.length;
    expect(before).toBeGreaterThan(8);
    expect(mean).toBeLessThan(3);
  });

  test("without drift changes nothing, and a drift of a tenth of a pixel is not worth it", () => {
    expect(Buffer.from(straightened(cat, { zoom: 1, x: 0, y: 0 }).data).equals(cat.data)).toBe(true);
    expect(isVisible({ zoom: 1, x: 0.1, y: 0 }, cat)).toBe(false);
    expect(isVisible({ zoom: 1.003, x: 0, y: 0 }, cat)).toBe(true);
  });
});
