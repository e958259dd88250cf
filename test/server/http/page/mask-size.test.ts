import { expect, test } from "vitest";
import { maskSize } from "../../../../src/server/http/page/mask-size.js";

test("a mask is as large as its picture", () => {
  expect(maskSize({ width: 451, height: 300 })).toEqual({ width: 451, height: 300 });
});

test("the mask of a large picture is smaller", () => {
  expect(maskSize({ width: 8192, height: 4096 })).toEqual({ width: 2048, height: 1024 });
});

test.each([
  [12_001, 51],
  [30_011, 1_013],
  [3_001, 2_999],
  [37, 9_999],
])("the mask of a picture of %i x %i has its shape within the 1 %% that the server allows", (width, height) => {
  const mask = maskSize({ width, height });
  expect(Math.abs(Math.log(mask.width / mask.height / (width / height)))).toBeLessThan(0.01);
});
