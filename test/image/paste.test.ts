import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { CHANNELS, type Image } from "../../src/image/image.js";
import { readImage } from "../../src/image/io/read.js";
import { encodePicture } from "../../src/image/io/write.js";
import { changeOf } from "../../src/image/paste/change.js";
import { dilated, distanceTo, eroded, withoutSpecks } from "../../src/image/paste/distance.js";
import { alphaAround, alphaOfPicture, editedShare, pasted } from "../../src/image/paste/paste.js";
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

test("distances are exact", () => {
  const [width, height] = [13, 9];
  const data = Uint8Array.from({ length: width * height }, (_, i) => Number((i * 7919) % 23 === 0));
  const inside = [...data].flatMap((value, i) => (value === 1 ? [i] : []));
  const wanted = [...data].map((_, i) =>
    Math.min(
      ...inside.map((j) => Math.hypot((i % width) - (j % width), Math.floor(i / width) - Math.floor(j / width))),
    ),
  );
  expect([...distanceTo({ width, height, data }, 1)]).toEqual(wanted.map(Math.fround));
});

test("growing and shrinking close gaps, and specks go", () => {
  const row = (text: string) => ({ width: text.length, height: 1, data: Uint8Array.from(text, Number) });
  expect(eroded(dilated(row("00110110000100"), 1), 1)).toEqual(row("00111110000100"));
  expect(withoutSpecks(row("0111110000100"), 2)).toEqual(row("0111110000000"));
});

// Node ends where a list is longer than 134 million; these have nine million, and a heap that holds no list of them.
test("masks of large pictures make no lists of their pixels", () => {
  const module = new URL("../../src/image/paste/distance.ts", import.meta.url).href;
  const work = `
    const { dilated, eroded, withoutSpecks } = await import(${JSON.stringify(module)});
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
    expect(editedShare(alphaAround((await changeOf(cat, cat)).mask, FEATHER))).toBe(0);
    const other = lanczos(rocket, cat);
    expect(editedShare(alphaAround((await changeOf(other, cat)).mask, FEATHER))).toBeGreaterThan(0.7);
  });

  test("leaves the original's pixels away from it, to the bit, and the result's inside", async () => {
    const result = await readImage(await encodePicture(edited(cat), { format: "jpeg" }));
    const picture = pasted(result, cat, {
      alpha: alphaAround((await changeOf(result, cat)).mask, FEATHER),
      box: WHOLE,
    });
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
    const alpha = [...alphaOfPicture(grey([0, 3, 255, 255, 255, 255, 250, 0]), 1).data];
    expect(alpha).toEqual([0, 0, 0.5, 1, 1, 1, 0.5, 0]);
  });

  test("counts greys in part", () => {
    expect([...alphaOfPicture(grey([0, 51, 102]), 0).data]).toEqual([0, 0.2, 0.4].map(Math.fround));
  });

  test("cannot bring in what lies outside the part that was edited", () => {
    const [one, two] = [grey([10, 20, 30]), grey([40, 50, 60])];
    const alpha = alphaOfPicture(grey([255, 255, 255]), 0);
    expect(pixel(pasted(two, one, { alpha, box: { x: 1, y: 0, width: 1, height: 1 } }), 0)).toEqual([10, 10, 10]);
    expect(pixel(pasted(two, one, { alpha, box: { x: 1, y: 0, width: 1, height: 1 } }), 1)).toEqual([50, 50, 50]);
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
