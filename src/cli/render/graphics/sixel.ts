// Encodes pictures as sixels: bands of six rows, for each colour of a band a line of characters that set its pixels.
// Colours are those of a fixed palette, dithered; a palette of the picture's own takes longer than a step may.
// https://vt100.net/docs/vt3xx-gp/chapter14.html
import { CHANNELS, type Image } from "../../../image/image.js";

/** Shades of each of red, green and blue; together below the 256 registers that terminals have. */
const SHADES = 6;
const COLOURS = SHADES ** 3;
/** Rows of a band. */
const BAND = 6;
/** The character of no pixel. */
const NONE = 63;
/** A repetition `!3?` is shorter from this length. */
const SHORTEST_RUN = 4;

/** Thresholds of ordered dithering, in sixteenths (Bayer 1973). */
const BAYER = [
  [0, 8, 2, 10],
  [12, 4, 14, 6],
  [3, 11, 1, 9],
  [15, 7, 13, 5],
] as const;

/** The sequence that draws a picture at the cursor. */
export function encodeSixel({ width, height, data }: Image): string {
  const bands: string[] = [];
  const columns = new Uint8Array(COLOURS * width);
  const used = new Set<number>();
  for (let top = 0; top < height; top += BAND) {
    const inBand = new Set<number>();
    columns.fill(0);
    for (let row = 0; row < Math.min(BAND, height - top); row += 1) {
      const thresholds = BAYER[(top + row) % 4]!;
      let at = (top + row) * width * CHANNELS;
      for (let x = 0; x < width; x += 1, at += CHANNELS) {
        const threshold = (thresholds[x % 4]! + 0.5) / 16;
        const colour =
          (shade(data[at]!, threshold) * SHADES + shade(data[at + 1]!, threshold)) * SHADES +
          shade(data[at + 2]!, threshold);
        columns[colour * width + x]! |= 1 << row;
        inBand.add(colour);
      }
    }
    const lines: string[] = [];
    for (const colour of inBand) {
      lines.push(`#${colour}${line(columns.subarray(colour * width, (colour + 1) * width))}`);
      used.add(colour);
    }
    bands.push(lines.join("$"));
  }
  return `\u001bP0;1;0q"1;1;${width};${height}${[...used].map(register).join("")}${bands.join("-")}\u001b\\`;
}

function shade(value: number, threshold: number): number {
  return Math.floor((value * (SHADES - 1)) / 255 + threshold);
}

// A register by its number, red, green and blue in percent.
function register(colour: number): string {
  const percent = (each: number) => (each % SHADES) * (100 / (SHADES - 1));
  return `#${colour};2;${percent(Math.floor(colour / SHADES ** 2))};${percent(Math.floor(colour / SHADES))};${percent(colour)}`;
}

function line(columns: Uint8Array): string {
  let end = columns.length;
  while (end > 0 && columns[end - 1] === 0) end -= 1;
  let text = "";
  for (let x = 0; x < end; ) {
    const column = columns[x]!;
    let length = 1;
    while (x + length < end && columns[x + length] === column) length += 1;
    const character = String.fromCharCode(NONE + column);
    text += length < SHORTEST_RUN ? character.repeat(length) : `!${length}${character}`;
    x += length;
  }
  return text;
}
