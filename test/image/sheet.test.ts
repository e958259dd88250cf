// Contact sheets: every picture whole and in its own shape, odd counts, labels that fit.
import { describe, expect, test } from "vitest";
import type { Image } from "../../src/image/image.js";
import { contactSheet, sheetCell } from "../../src/image/sheet/contact-sheet.js";
import { fitted, textWidth } from "../../src/image/sheet/letters.js";

const flat = (width: number, height: number, shade: number): Image => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(shade),
});

const count = ({ data }: Image, shade: number) => data.filter((value) => value === shade).length;

describe("a sheet", () => {
  test.each([1, 2, 3, 5, 7, 12, 13])("of %i pictures of different shapes holds every pixel of each", (number) => {
    const shapes = [flat(200, 90, 0), flat(60, 170, 0), flat(120, 120, 0)];
    const cells = Array.from({ length: number }, (_, index) => ({
      label: `seed ${index}`,
      image: flat(shapes[index % 3]!.width, shapes[index % 3]!.height, 100 + index),
    }));
    const sheet = contactSheet(cells);
    expect(sheet.data).toHaveLength(sheet.width * sheet.height * 3);
    cells.forEach(({ image }, index) => expect(count(sheet, 100 + index), `picture ${index}`).toBe(image.data.length));
  });

  test("keeps pairs in one row", () => {
    const cells = Array.from({ length: 6 }, (_, index) => ({ label: "", image: flat(150, 100, 100 + index) }));
    const sheet = contactSheet(cells, { inRow: 2 });
    const rowOf = (shade: number) => Math.floor(sheet.data.indexOf(shade) / 3 / sheet.width);
    for (const pair of [0, 2, 4]) expect(rowOf(100 + pair)).toBe(rowOf(101 + pair));
  });

  test("is about as wide as a screen, however many pictures it holds", () => {
    for (const number of [4, 9, 30, 100]) {
      const { width, height } = contactSheet(
        Array.from({ length: number }, () => ({ label: "x", image: flat(300, 200, 9) })),
      );
      expect(width / height).toBeGreaterThan(0.9);
      expect(width / height).toBeLessThan(2.4);
    }
  });
});

test("a picture is made small in its own shape, and a small one is left as it is", async () => {
  const { image: large } = await sheetCell("", flat(1200, 400, 7));
  expect([large.width, large.height]).toEqual([384, 128]);
  const { image: small } = await sheetCell("", flat(12, 40, 7));
  expect([small.width, small.height]).toEqual([12, 40]);
});

describe("a label", () => {
  test.each([
    ["seed 5", 200, "seed 5"],
    ["ein Café über São Paulo", 1000, "ein Cafe uber Sao Paulo"],
    ["猫.jpg", 200, "?.jpg"],
    ["a-very-long-name-of-a-picture-0001.jpg", 144, "a-ver...jpg"],
    ["seed 123", 40, "see"],
  ])("%j in %i pixels is %j", (text, width, wanted) => {
    const shown = fitted(text, width);
    expect(textWidth(shown)).toBeLessThanOrEqual(width);
    if (wanted !== "a-ver...jpg") expect(shown).toBe(wanted);
    else expect(shown).toMatch(/^a-ver.*\.\..*\.jpg$/);
  });
});
