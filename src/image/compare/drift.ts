// How far a result zoomed and shifted against the original, measured where it did not change: blocks of edge strength are looked for in the
// original by normalised correlation, coarse to fine, and the similarity that most of them agree on is the drift.

import { type Box, type FloatImage, type Image, type Size, wholeOf } from "../image.js";
import { BlockMatcher, bestOffset, deviation } from "./correlation.js";
import { edgeFinder, type Plane } from "./drift-wasm.js";
import { halved, reducedLuma } from "./features.js";
import { IDENTITY, type PointPair, type RobustFit, robustFit, type Similarity } from "./similarity.js";

/** What was measured, in pixels of the result: x to the right, y downwards at its centre; zoom 1.003 is 0.3 % larger than the original. */
export interface Drift extends Similarity {
  /** Share of the picture's textured blocks that agree. */
  readonly agreement: number;
}

/** The longer side that is worked at, pixels: finer brings nothing, for blocks are located to a twentieth of a pixel. */
const WORKING_SIDE = 512;

/** The longer side at which every zoom and shift is tried. */
const COARSE_SIDE = 80;
const COARSE_ZOOM = { range: 0.1, step: 0.02 };
/** Share of the side. */
const COARSE_SHIFT = 0.1;
const HYPOTHESES = 4;
/** The longest side of a level that is no longer halved. */
const MOST_COARSE_SIDE = COARSE_SIDE * 1.5;

/** Share of the textured blocks that agree when "nothing moved" is refined, from which on no zooms and shifts are tried: what more blocks agree with has most of these among them, and is the same. */
const CLEAR_MAJORITY = 0.75;

/** Blocks along the longer side, unless that makes them smaller than the least side. */
const BLOCKS = 16;
const LEAST_BLOCK = 16;

/** Pixels around the expected place that a block is looked for in, in the first round at a level, and in the last of all. */
const SEARCH = { first: 3, last: 2 };
const MOST_REACH = Math.max(Math.round(MOST_COARSE_SIDE * COARSE_SHIFT), SEARCH.first);

/** Least standard deviation of edge strength in a block that can be located. */
const LEAST_TEXTURE = 0.35;

/** Pixels within which blocks agree. */
const TOLERANCE = 0.75;

/** Fewer agreeing blocks may be chance: a wrong block agrees in about 1 of 50 cases, and few wrong ones correlate. */
const LEAST_BLOCKS = 8;
const LEAST_AGREEMENT = 0.08;
/** How far off, in working pixels, the zoom's standard error may put the picture's edge. */
const MOST_EDGE_ERROR = 0.5;

/** The boxes that are held against each other, both all of their picture unless given: that of the original which the result shows, and that of the result which shows it. */
interface DriftBoxes {
  readonly seen?: Box;
  readonly inside?: Box;
}

/** Measures the drift of a result against what it shows of the original. Undefined when they share too little to measure it. */
export function measureDrift(
  result: Image | FloatImage,
  original: Image | FloatImage,
  { seen = wholeOf(original), inside = wholeOf(result) }: DriftBoxes = {},
): Drift | undefined {
  const size = workingSize(inside, seen);
  // No block fits: nothing would be found, and halving could leave nothing of a side.
  if (blocksOf(size, sideOfBlocks(size), SEARCH.first).length === 0) return undefined;
  const levels = pyramid(reducedLuma(result, inside, size), reducedLuma(original, seen, size));
  const matcher = new BlockMatcher(size, MOST_REACH);
  const start = follow(bestStart(levels.slice(-2), matcher), levels.slice(1, -2), matcher);
  const best = settle(levels[0]!, start, matcher);
  if (best === undefined || !isSure(best, size)) return undefined;
  const { zoom, x, y } = best.fit;
  const scale = { x: inside.width / size.width, y: inside.height / size.height };
  return { zoom, x: x * scale.x, y: y * scale.y, agreement: best.fit.followers / best.textured };
}

interface Level {
  /** Pixels of the finest level in one of this. */
  readonly scale: number;
  readonly result: Plane;
  readonly original: Plane;
}

interface Found {
  readonly fit: RobustFit;
  readonly textured: number;
}

function isSure({ fit, textured }: Found, size: Size): boolean {
  const edge = Math.hypot(size.width, size.height) / 2;
  return (
    fit.followers >= LEAST_BLOCKS &&
    fit.followers >= LEAST_AGREEMENT * textured &&
    fit.zoomError * edge <= MOST_EDGE_ERROR
  );
}

function workingSize(result: Size, box: Size): Size {
  const limit = { width: Math.min(result.width, box.width), height: Math.min(result.height, box.height) };
  const scale = Math.min(
    WORKING_SIDE / Math.max(result.width, result.height),
    limit.width / result.width,
    limit.height / result.height,
    1,
  );
  const side = (length: number, most: number) => Math.min(Math.max(Math.round(length * scale), 1), most);
  return { width: side(result.width, limit.width), height: side(result.height, limit.height) };
}

// Edge strength of both at the working size, and of ever smaller ones down to the coarse one.
function pyramid(result: Plane, original: Plane): Level[] {
  const edgeStrength = edgeFinder(result);
  const levels: Level[] = [{ scale: 1, result: edgeStrength(result), original: edgeStrength(original) }];
  for (let [a, b] = [result, original]; Math.max(a.width, a.height) > MOST_COARSE_SIDE; ) {
    [a, b] = [halved(a), halved(b)];
    levels.push({ scale: 2 ** levels.length, result: edgeStrength(a), original: edgeStrength(b) });
  }
  return levels;
}

/** A similarity in pixels of the finest level, and how many of the textured blocks agree with it at the level where it was last looked at. */
interface Start extends Similarity {
  readonly followers: number;
  readonly textured: number;
}

// Every start is followed through the two coarsest levels, which are cheap; the one that most blocks agree with goes on.
function bestStart(coarsest: readonly Level[], matcher: BlockMatcher): Start {
  const unmoved = follow({ ...IDENTITY, followers: 0, textured: 0 }, coarsest, matcher);
  const isClear = unmoved.followers >= LEAST_BLOCKS && unmoved.followers > CLEAR_MAJORITY * unmoved.textured;
  if (isClear) return unmoved;
  const moved = hypotheses(coarsest.at(-1)!, matcher).map((start) => follow(start, coarsest, matcher));
  return [unmoved, ...moved].sort((a, b) => b.followers - a.followers)[0]!;
}

// The best zooms and shifts of the coarsest level, tried out one by one.
function hypotheses({ scale, result, original }: Level, matcher: BlockMatcher): Start[] {
  const side = Math.max(result.width, result.height);
  const reach = Math.max(Math.round(side * COARSE_SHIFT), 1);
  const tried: (Start & { readonly score: number })[] = [];
  for (let zoom = 1 - COARSE_ZOOM.range; zoom <= 1 + COARSE_ZOOM.range + 1e-9; zoom += COARSE_ZOOM.step) {
    // The margin keeps every shift inside.
    const block = { x: reach, y: reach, width: result.width - 2 * reach, height: result.height - 2 * reach };
    if (block.width < 4 || block.height < 4) break;
    matcher.aim(result, original, { zoom, x: 0, y: 0 });
    const scores = matcher.correlations(block, reach);
    const peak = scores.indexOf(Math.max(...scores));
    const across = 2 * reach + 1;
    const [x, y] = [reach - (peak % across), reach - Math.floor(peak / across)];
    tried.push({ zoom, x: x * scale, y: y * scale, followers: 0, textured: 0, score: scores[peak]! });
  }
  return tried.sort((a, b) => b.score - a.score).slice(0, HYPOTHESES);
}

// Refines a start on levels, the last one first.
function follow(start: Start, levels: readonly Level[], matcher: BlockMatcher): Start {
  return levels.toReversed().reduce((current, level) => {
    const { scale } = level;
    const expected = { zoom: current.zoom, x: current.x / scale, y: current.y / scale };
    const { pairs, textured } = matchBlocks(level, expected, { matcher, reach: SEARCH.first });
    const fit = robustFit(pairs, TOLERANCE);
    // The coarsest levels have few blocks; the next one may still decide.
    return fit === undefined
      ? current
      : { zoom: fit.zoom, x: fit.x * scale, y: fit.y * scale, followers: fit.followers, textured };
  }, start);
}

// Twice: the second time what is left to find is so little that nothing hangs on how pixels are interpolated.
function settle(finest: Level, start: Similarity, matcher: BlockMatcher): Found | undefined {
  const first = robustFit(matchBlocks(finest, start, { matcher, reach: SEARCH.first }).pairs, TOLERANCE);
  if (first === undefined) return undefined;
  const { pairs, textured } = matchBlocks(finest, first, { matcher, reach: SEARCH.last });
  const fit = robustFit(pairs, TOLERANCE);
  return fit && { fit, textured };
}

// Looks for each block of the result in the original, which is first brought to where it is expected.
function matchBlocks(
  { result, original }: Level,
  expected: Similarity,
  { matcher, reach }: { matcher: BlockMatcher; reach: number },
): { pairs: PointPair[]; textured: number } {
  matcher.aim(result, original, expected);
  const pairs: PointPair[] = [];
  let textured = 0;
  for (const block of blocksOf(result, sideOfBlocks(result), reach)) {
    if (deviation(result, block) < LEAST_TEXTURE) continue;
    textured++;
    const offset = bestOffset(matcher.correlations(block, reach), reach);
    if (offset === undefined) continue;
    const to = [block.x + (block.width - result.width) / 2, block.y + (block.height - result.height) / 2] as const;
    const from = [
      (to[0] + offset[0] - expected.x) / expected.zoom,
      (to[1] + offset[1] - expected.y) / expected.zoom,
    ] as const;
    pairs.push({ from, to });
  }
  return { pairs, textured };
}

function sideOfBlocks({ width, height }: Size): number {
  return Math.max(Math.round(Math.max(width, height) / BLOCKS), LEAST_BLOCK);
}

// A pixel at the rim has no gradient.
function blocksOf({ width, height }: Size, side: number, reach: number): Box[] {
  const margin = reach + 1;
  const along = (length: number) => Math.floor((length - 2 * margin) / side);
  const start = (length: number) => margin + Math.floor((length - 2 * margin - along(length) * side) / 2);
  const boxes: Box[] = [];
  for (let row = 0; row < along(height); row++) {
    for (let column = 0; column < along(width); column++)
      boxes.push({ x: start(width) + column * side, y: start(height) + row * side, width: side, height: side });
  }
  return boxes;
}
