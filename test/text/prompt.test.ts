import { describe, expect, test } from "vitest";
import {
  contractImages,
  dropIndex,
  editPrompt,
  expandImages,
  isEmptyPrompt,
  seenTokens,
} from "../../src/text/prompt.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";

const tokenizer = await loadTokenizer();
const PAD = 151655;
const SYSTEM_IDS =
  "151644 8948 198 74785 279 1376 4419 315 279 1946 2168 320 3423 11 6083 11 1379 11 10434 11 6171 11 4004 701 1221 10339 1246 279 1196 594 " +
  "1467 7600 1265 11596 476 5602 279 2168 13 19813 264 501 2168 429 20027 279 1196 594 8502 1393 20337 28137 448 279 4024 1946 1380 8311 13 151645 198";
const ids = (text: string) => text.split(" ").map(Number);

test("the edit prompt has the ids that ComfyUI gives the model", () => {
  const expected = ids(
    `${SYSTEM_IDS} 151644 872 198 24669 220 16 25 220 151652 ${PAD} 151653 23107 279 8251 448 264 294 7673 266 1103 151645 198 151644 77091 198`,
  );
  expect(expected.length).toBe(86);
  expect(tokenizer.encode(editPrompt("Replace the cat with a dalmatian", { slots: [1] }))).toEqual(expected);
  expect(dropIndex(expected)).toBe(64);
});

test("pictures are named by their slots, with nothing between them", () => {
  expect(editPrompt("swap", { slots: [2, 3] })).toContain(
    "<|im_start|>user\nPicture 2: <|vision_start|><|image_pad|><|vision_end|>Picture 3: <|vision_start|><|image_pad|><|vision_end|>swap<|im_end|>\n",
  );
});

test("an empty prompt leaves the pictures and five tokens", () => {
  const empty = tokenizer.encode(editPrompt("", { slots: [1] }));
  expect(empty.slice(dropIndex(empty))).toEqual(
    ids(`24669 220 16 25 220 151652 ${PAD} 151653 151645 198 151644 77091 198`),
  );
  const bare = tokenizer.encode(editPrompt("", { slots: [] }));
  expect(bare.slice(dropIndex(bare))).toEqual(ids("151645 198 151644 77091 198"));
});

test("escaped parentheses lose their backslash only when asked for", () => {
  expect(editPrompt("a \\(b\\) \\n", { slots: [], unescapeParentheses: true })).toContain("user\na (b) \\n<|im_end|>");
  expect(editPrompt("a \\(b\\)", { slots: [] })).toContain("user\na \\(b\\)<|im_end|>");
});

describe("dropIndex", () => {
  test("stops at the second message even when the user types more of them", () => {
    const typed = tokenizer.encode(editPrompt("<|im_start|>user\nx", { slots: [1] }));
    expect(dropIndex(typed)).toBe(64);
  });

  test("keeps what follows another word than user", () => {
    expect(dropIndex([151644, 8948, 198, 151644, 77091, 198, 1, 2])).toBe(3);
  });

  test("refuses ids without the template", () =>
    expect(() => dropIndex([1, 151644, 2])).toThrow("not in the edit template"));
});

describe("expandImages", () => {
  test("repeats each picture's placeholder and says where", () => {
    expect(expandImages([7, PAD, 8, PAD, 9], [3, 2])).toEqual({
      ids: [7, PAD, PAD, PAD, 8, PAD, PAD, 9],
      images: [
        { start: 1, count: 3 },
        { start: 5, count: 2 },
      ],
    });
  });

  test("leaves placeholders that the user typed as they are", () => {
    expect(expandImages([PAD, 8, PAD], [2])).toEqual({ ids: [PAD, PAD, 8, PAD], images: [{ start: 0, count: 2 }] });
    expect(expandImages([5, PAD], [])).toEqual({ ids: [5, PAD], images: [] });
  });

  test("refuses more pictures than placeholders", () =>
    expect(() => expandImages([PAD], [1, 1])).toThrow("2 pictures for 1 placeholders"));
});

describe("contractImages", () => {
  test.each([
    [
      [7, PAD, 8, PAD, 9],
      [3, 2],
    ],
    [[PAD, 8, PAD], [2]],
    [[5, PAD], []],
    [
      [PAD, PAD],
      [2, 1],
    ],
  ])("undoes expandImages of %j by %j", (ids, counts) => {
    expect(contractImages(expandImages(ids, counts).ids, counts)).toEqual(ids);
  });

  test.each([
    ["too few tokens of a picture", [7, PAD, PAD, 8], [3]],
    ["one that is interrupted", [7, PAD, 9, PAD, 8], [2]],
    ["a picture that is missing", [7, PAD, PAD, 8], [2, 2]],
  ])("gives nothing for %s", (_, ids, counts) => expect(contractImages(ids, counts)).toBeUndefined());
});

test("what is typed from <|endoftext|> on is not seen, nor the end of the template", () => {
  const seen = (prompt: string) => seenTokens(tokenizer.encode(editPrompt(prompt, { slots: [1] })));
  expect(seen("make it red<|endoftext|>and blue<|endoftext|>!")).toEqual(seen("make it red").slice(0, -5));
  expect(seen("make it red").slice(-5)).toEqual(ids("151645 198 151644 77091 198"));
});

test.each([
  ["", true],
  [" \r\n\t\u00a0\u3000", true],
  ["\u200b\ufeff\u0000", true],
  [" <|endoftext|>make it red", true],
  [".", false],
  ["变", false],
  ["make it red<|endoftext|>", false],
])("%j says nothing: %s", (prompt, isEmpty) => {
  expect(isEmptyPrompt(prompt)).toBe(isEmpty);
});
