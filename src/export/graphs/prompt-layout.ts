// What encode-prompt finds in the tokens of a prompt, inside a graph: which are seen, which the transformer does not see, which are pictures, and
// where each stands. The rules are those of text/prompt.ts and text/positions.ts.
import {
  counted,
  cumulativeSum,
  gather,
  part,
  range,
  refuseUnless,
  squeeze,
  sumOver,
  unsqueeze,
} from "../../graph/indexing.js";
import { concat, type Value } from "../../graph/value.js";
import type { VisionNumbers } from "../../models/text-encoder-family.js";
import { USER_LINE } from "../../text/prompt.js";
import { TOKEN } from "../../text/vocabulary.js";
import { refuseOutside, violated } from "./violations.js";

/** Pictures by their patch grids: lists i64 [images]. */
export interface PictureGrids {
  /** In patches. */
  readonly rows: Value;
  readonly columns: Value;
  readonly patches: Value;
  /** In tokens. */
  readonly tokenColumns: Value;
  readonly tokens: Value;
  /** Of the longer side, in tokens: positions that a picture takes. */
  readonly sides: Value;
}

/** Reads the grids of pictures, i64 [images, 3], which have so many patches together, i64 [1]. A run with grids that no picture has fails. */
export function pictureGrids(
  given: Value,
  patches: Value,
  { mergeSize }: Pick<VisionNumbers, "mergeSize">,
): PictureGrids {
  // Products of these cannot overflow.
  const grid = refuseOutside(
    given,
    patches.max(1),
    "image_grid_thw must be positive, and of no more patches than pixel_values",
  );
  const column = (table: Value, axis: number) => squeeze(gather(table, grid.graph.constant("i64", [1], [axis]), 1), 1);
  const merged = (list: Value) => list.div(mergeSize);
  const wrong = [1, 2].reduce(
    (sum, axis) => {
      const list = column(grid, axis);
      return sum.add(total(violated(merged(list).mul(mergeSize).equals(list)))).add(total(violated(list.atLeast(1))));
    },
    total(violated(column(grid, 0).equals(1))),
  );
  const message = `image_grid_thw must have rows of 1, and two positive multiples of ${mergeSize}`;
  const checked = refuseUnless(grid, wrong, message);
  const [rows, columns] = [column(checked, 1), column(checked, 2)];
  const [tokenRows, tokenColumns] = [merged(rows), merged(columns)];
  return {
    rows,
    columns,
    patches: rows.mul(columns),
    tokenColumns,
    tokens: tokenRows.mul(tokenColumns),
    sides: tokenRows.max(tokenColumns),
  };
}

/** The tokens of a prompt, in lists i64 [seen]. */
export interface PromptLayout {
  readonly ids: Value;
  /** How many are seen, and how many of those the transformer does not see: i64 [1]. */
  readonly count: Value;
  readonly dropped: Value;
  /** 1 for a token of a picture, else 0. */
  readonly isPicture: Value;
  /** Tokens of pictures before each. */
  readonly before: Value;
  /** Time, row and column of each. */
  readonly positions: readonly [Value, Value, Value];
  /** Tokens before each picture that are of none, i64 [images]. */
  readonly wordsBefore: Value;
}

/** What a prompt's tokens are read by. */
export interface PromptRules {
  /** Number of tokens that there are. */
  readonly vocabulary: number;
  /** See PromptTemplate. */
  readonly dropsUserLine: boolean;
}

/** Reads token ids i64 [1, all]. A run with ids that are not of the template, or do not fit the pictures, fails. */
export function promptLayout(
  given: Value,
  pictures: PictureGrids,
  { vocabulary, dropsUserLine }: PromptRules,
): PromptLayout {
  const all = known(squeeze(given, 0), vocabulary);
  const fromSecond = total(counted(cumulativeSum(counted(all.equals(TOKEN.messageStart))).atLeast(2)));
  const inTemplate = refuseUnless(
    all,
    counted(fromSecond.equals(0)),
    "input_ids must be in the edit template, with two <|im_start|>",
  );
  const dropped = droppedCount(inTemplate, { fromSecond, dropsUserLine });
  const count = total(counted(cumulativeSum(counted(inTemplate.equals(TOKEN.endOfText))).equals(0)));
  const start = given.graph.constant("i64", [1], [0]);
  const seen = refuseUnless(
    part(inTemplate, { axis: 0, start, end: count, length: "seen" }),
    counted(dropped.atLeast(count)),
    "input_ids must have a token after the system prompt and before <|endoftext|>",
  );

  const isPad = counted(seen.equals(TOKEN.imagePad));
  const wanted = total(pictures.tokens);
  // Further ones, typed by the user, are ordinary tokens.
  const isPicture = isPad.mul(counted(wanted.atLeast(cumulativeSum(isPad))));
  const before = cumulativeSum(isPicture).sub(isPicture);
  const ids = refuseUnless(
    refuseUnless(
      seen,
      wanted.sub(total(isPicture)),
      "input_ids must have <|image_pad|> once for each token of a picture",
    ),
    brokenPictures({ isPicture, before }, pictures),
    "input_ids must have the tokens of a picture side by side, and those of two pictures apart as image_grid_thw says",
  );
  const places = { isPicture, before };
  return {
    ...{ ids, count, dropped, ...places },
    positions: positionsOf(places, pictures),
    wordsBefore: wordsBeforePictures(places, pictures),
  };
}

// Ids outside of the table would be read as zeros by a GPU.
function known(ids: Value, vocabulary: number): Value {
  const wrong = total(counted(ids.atLeast(vocabulary))).add(total(violated(ids.atLeast(0))));
  return refuseUnless(ids, wrong, `input_ids must be from 0 to ${vocabulary - 1}`);
}

// See dropIndex of the templates.
function droppedCount(
  ids: Value,
  { fromSecond, dropsUserLine }: { readonly fromSecond: Value; readonly dropsUserLine: boolean },
): Value {
  const { graph } = ids;
  const length = ids.shapeValue();
  const second = length.sub(fromSecond);
  if (!dropsUserLine) return second;
  const last = length.sub(1);
  const line = concat([second.add(1).min(last), second.add(2).min(last)], 0);
  const isUser = counted(gather(ids, line).equals(graph.constant("i64", [2], USER_LINE)));
  const isLong = counted(length.atLeast(second.add(USER_LINE.length + 2)));
  const endsWithUser = counted(total(isUser).equals(USER_LINE.length)).mul(isLong);
  return second.add(endsWithUser.mul(USER_LINE.length + 1));
}

interface Places {
  readonly isPicture: Value;
  readonly before: Value;
}

// Tokens of a picture that are not behind as many words as its first token.
function brokenPictures(places: Places, pictures: PictureGrids): Value {
  const { isPicture, before } = places;
  const firsts = wordsBeforePictures(places, pictures);
  const own = gather(withOneMore(firsts, 0), pictureOf(before, cumulativeSum(pictures.tokens)));
  return total(violated(own.equals(wordsBefore(before))).mul(isPicture));
}

// For each picture how many words are before its first token.
function wordsBeforePictures({ isPicture, before }: Places, { tokens }: PictureGrids): Value {
  const starts = cumulativeSum(tokens).sub(tokens);
  const isFirst = counted(unsqueeze(before, 1).equals(unsqueeze(starts, 0))).mul(unsqueeze(isPicture, 1));
  return squeeze(sumOver(isFirst.mul(unsqueeze(wordsBefore(before), 1)), 0), 0);
}

// See positionIds: words count up, a picture takes as many positions as its longer side has tokens.
function positionsOf({ isPicture, before }: Places, pictures: PictureGrids): PromptLayout["positions"] {
  const { tokens, tokenColumns, sides } = pictures;
  const ends = cumulativeSum(tokens);
  const which = pictureOf(before, ends);
  const taken = counted(unsqueeze(before, 1).atLeast(unsqueeze(ends, 0))).mul(unsqueeze(sides, 0));
  const time = wordsBefore(before).add(squeeze(sumOver(taken, 1), 1));
  const place = before.sub(gather(withOneMore(ends.sub(tokens), 0), which));
  const across = gather(withOneMore(tokenColumns, 1), which);
  const row = place.div(across);
  return [time, time.add(row.mul(isPicture)), time.add(place.sub(row.mul(across)).mul(isPicture))];
}

// The number of the picture that a token is in, or of the next one; behind the last it is one more than there are.
function pictureOf(before: Value, ends: Value): Value {
  return squeeze(sumOver(counted(unsqueeze(before, 1).atLeast(unsqueeze(ends, 0))), 1), 1);
}

// A list with a number for tokens behind the last picture.
function withOneMore(list: Value, number: number): Value {
  return concat([list, list.graph.constant("i64", [1], [number])], 0);
}

function wordsBefore(before: Value): Value {
  return range(before.shapeValue(), before.dim(0)).sub(before);
}

function total(list: Value): Value {
  return list.sum().reshape([1]);
}
