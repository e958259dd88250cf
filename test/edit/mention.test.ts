// Which pictures a prompt leaves unnamed.
import { expect, test } from "vitest";
import { unmentionedPictures } from "../../src/edit/resolve/mention.js";

test.each([
  ["make it black and white", 1, []],
  ["put the hat on the person", 2, [2]],
  ["put the hat of picture 2 on the person", 2, []],
  ["Put the hat from the second image on her", 2, []],
  ["use image2's colours", 2, []],
  ["put the hat of picture 2 on the person", 3, [3]],
  ["blend the two pictures", 3, []],
  ["combine both", 2, []],
  ["a poster of 1920s Paris with 12 people", 2, [2]],
  ["把图2的帽子戴在图1的人头上", 2, []],
  ["图二的颜色", 2, []],
])("%s (%i pictures)", (prompt, count, unnamed) => {
  expect(unmentionedPictures(prompt, count)).toEqual(unnamed);
});
