// What an edit changed: where a result differs from its original by more than encoding does, and whether that is a part of the picture or all of it.
import { overWhite } from "../alpha.js";
import { type Box, CHANNELS, crop, type Image, type Size, wholeOf } from "../image.js";
import { loadSharp } from "../io/load-sharp.js";
import { dilated, eroded, type Mask } from "./distance.js";
import { withoutSpecks } from "./specks.js";

/** Share of the longer side, in the units of its name: blur before comparing, gaps that close, and the side of the largest speck that is dropped. */
const BLUR = 1 / 512;
const GAP = 1 / 64;
const SPECK = 1 / 64;

/** Levels by which a channel must differ: what encoding and decoding does is below; it does more where a picture is full of detail. */
const THRESHOLD = { least: 16, most: 64, perMedian: 3, above: 8 };

/** Cells along the longer side in which changes are counted. */
const CELLS = 16;

/**
 * Beyond any of these a change is not local: share of the pixels, share of the cells that hold some of it, levels by which the mean of half the cells
 * moved, and the detail of half the cells against the original's (natural logarithm), which blurring lowers and sharpening raises. "Keep it as it is" by
 * the embedded model, whose VAE is coarse: up to 0.11, 0.47, 4.0, and down to -0.39; its edits of all of a picture are beyond one of them at least.
 */
const LOCAL = { pixels: 0.5, cells: 0.6, tone: 6, detail: { least: -0.8, most: 0.2 } };

/** Mean difference of neighbouring pixels, in levels, from which a cell has detail that can be compared. */
const LEAST_DETAIL = 3;

/** Rows that are compared at a time. */
const BAND = 512;

/** Blurs reach no further than this many of their deviations: libvips drops what weighs less than a fifth of the middle. */
const REACH = 3;

/** A change: where it is, joined up and without specks, and whether it is of a part of the picture. */
export interface Change {
  readonly mask: Mask;
  readonly isLocal: boolean;
}

/** What differs inside box between a result and the original, both of one size and lying over each other: the mask is of the box's size. */
export async function changeOf(result: Image, original: Image, box: Box = wholeOf(original)): Promise<Change> {
  const { width, height } = box;
  const side = Math.max(width, height);
  const levels = await differencesOf(result, original, box);
  const { least, most, perMedian, above } = THRESHOLD;
  const threshold = Math.min(Math.max(median(levels) * perMedian + above, least), most);
  for (let i = 0; i < levels.length; i++) levels[i] = Number(levels[i]! > threshold);
  const gap = Math.max(side * GAP, 2);
  const parts = withoutSpecks({ width, height, data: levels }, Math.max((side * SPECK) ** 2 / 4, 4));
  const mask = eroded(dilated(parts, gap), gap);
  return { mask, isLocal: isLocal(mask, cellsOf(result, original, { mask, box })) };
}

/** For each pixel of part, which is of box, 1 where the result visibly differs from the original there, else 0. Both of one size; nothing outside box is looked at. */
export async function visiblyChanged(
  result: Image,
  original: Image,
  { part, box }: { readonly part: Box; readonly box: Box },
): Promise<Uint8Array> {
  return (await differencesIn(result, original, { part, box })).map((level) => Number(level > THRESHOLD.least));
}

interface Cell {
  /** Levels by which the mean of the channel that moved most did. */
  readonly tone: number;
  /** Detail of the result against the original's, natural logarithm; undefined where the original has none. */
  readonly detail: number | undefined;
  readonly isChanged: boolean;
}

function isLocal({ data }: Mask, cells: readonly Cell[]): boolean {
  let pixels = 0;
  for (let i = 0; i < data.length; i++) pixels += data[i]!;
  const changed = cells.filter((cell) => cell.isChanged).length / cells.length;
  const tone = middle(cells.map((cell) => cell.tone));
  const detail = middle(cells.flatMap((cell) => cell.detail ?? []));
  const { least, most } = LOCAL.detail;
  return (
    pixels / data.length <= LOCAL.pixels &&
    changed <= LOCAL.cells &&
    tone <= LOCAL.tone &&
    detail >= least &&
    detail <= most
  );
}

function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

// Encoding moves single pixels up and down; the mean of many moves only with the tone.
function cellsOf(result: Image, original: Image, { mask, box: whole }: { mask: Mask; box: Box }): Cell[] {
  const { width, height } = mask;
  const side = Math.max(Math.ceil(Math.max(width, height) / CELLS), 1);
  const cells: Cell[] = [];
  for (let y = 0; y < height; y += side) {
    for (let x = 0; x < width; x += side) {
      const box = { x, y, width: Math.min(side, width - x), height: Math.min(side, height - y) };
      const place = { ...box, x: whole.x + x, y: whole.y + y };
      const [part, before] = [overWhite(crop(result, place)), overWhite(crop(original, place))];
      const [now, then] = [detailOf(part), detailOf(before)];
      cells.push({
        tone: toneBetween(part, before),
        detail: then < LEAST_DETAIL ? undefined : Math.log(Math.max(now, 1 / 255) / then),
        isChanged: maskIn(mask, box),
      });
    }
  }
  return cells;
}

function maskIn({ width, data }: Mask, box: Box): boolean {
  for (let y = box.y; y < box.y + box.height; y++)
    if (data.subarray(y * width + box.x, y * width + box.x + box.width).includes(1)) return true;
  return false;
}

function toneBetween({ data }: Image, { data: before }: Image): number {
  let [red, green, blue] = [0, 0, 0];
  for (let at = 0; at < data.length; at += CHANNELS) {
    red += data[at]! - before[at]!;
    green += data[at + 1]! - before[at + 1]!;
    blue += data[at + 2]! - before[at + 2]!;
  }
  return Math.max(...[red, green, blue].map((sum) => Math.abs(sum / (data.length / CHANNELS))));
}

// Mean difference of neighbours in green, which is most of what is seen.
function detailOf({ width, height, data }: Image): number {
  let sum = 0;
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const at = (y * width + x) * CHANNELS + 1;
      sum += Math.abs(data[at]! - data[at + CHANNELS]!) + Math.abs(data[at]! - data[at + width * CHANNELS]!);
    }
  }
  return sum / (width * height);
}

async function differencesOf(result: Image, original: Image, box: Box): Promise<Uint8Array> {
  const differences = new Uint8Array(box.width * box.height);
  for (let y = 0; y < box.height; y += BAND) {
    const part = { ...box, y: box.y + y, height: Math.min(BAND, box.height - y) };
    differences.set(await differencesIn(result, original, { part, box }), y * box.width);
  }
  return differences;
}

// Of a part of box, as if all of the box had been blurred.
async function differencesIn(
  result: Image,
  original: Image,
  { part, box }: { readonly part: Box; readonly box: Box },
): Promise<Uint8Array> {
  const sigma = deviationFor(box);
  const around = within(part, box, Math.ceil(REACH * sigma));
  const [a, b] = await Promise.all([result, original].map((image) => blurred(overWhite(crop(image, around)), sigma)));
  const differences = new Uint8Array(part.width * part.height);
  for (let y = 0, i = 0; y < part.height; y++) {
    let at = ((part.y - around.y + y) * around.width + part.x - around.x) * CHANNELS;
    for (let x = 0; x < part.width; x++, i++, at += CHANNELS)
      differences[i] = Math.max(
        Math.abs(a![at]! - b![at]!),
        Math.abs(a![at + 1]! - b![at + 1]!),
        Math.abs(a![at + 2]! - b![at + 2]!),
      );
  }
  return differences;
}

// sharp takes no smaller one.
function deviationFor({ width, height }: Size): number {
  return Math.max(Math.max(width, height) * BLUR, 0.5);
}

// The part with so many pixels of box around it.
function within(part: Box, box: Box, margin: number): Box {
  const [x, y] = [Math.max(part.x - margin, box.x), Math.max(part.y - margin, box.y)];
  const right = Math.min(part.x + part.width + margin, box.x + box.width);
  const bottom = Math.min(part.y + part.height + margin, box.y + box.height);
  return { x, y, width: right - x, height: bottom - y };
}

async function blurred({ width, height, data }: Image, sigma: number): Promise<Uint8Array> {
  const sharp = loadSharp();
  return sharp(data, { raw: { width, height, channels: CHANNELS } })
    .blur(sigma)
    .raw()
    .toBuffer();
}

function median(levels: Uint8Array): number {
  const counts = new Uint32Array(256);
  for (let i = 0; i < levels.length; i++) counts[levels[i]!]!++;
  let left = levels.length / 2;
  return counts.findIndex((count) => (left -= count) <= 0);
}
