// A contact sheet: pictures side by side in cells of one size, each whole and in its own shape, with its label below.
import { overWhite } from "../alpha.js";
import { CHANNELS, type FloatImage, type Image, toBytes } from "../image.js";
import { loadSharp } from "../io/load-sharp.js";
import { drawText, fitted, LINE_HEIGHT, textWidth } from "./letters.js";

/** A picture on a sheet, as small as it will be there. */
export interface SheetCell {
  readonly label: string;
  readonly image: Image;
}

/** Longest side of a picture on a sheet, and the narrowest cell, which a label still fits, in pixels. */
const LONGEST_SIDE = 384;
const NARROWEST = 144;

const MARGIN = 12;
const LABEL_GAP = 6;
const BACKGROUND = 24;
const INK = 230;

/** How many times wider than high a sheet is meant to be. */
const SHAPE = 1.5;

/** The picture as small as a sheet shows it; smaller ones stay as they are. */
export async function sheetCell(label: string, picture: Image | FloatImage): Promise<SheetCell> {
  const { width, height, data } = overWhite(toBytes(picture, "round"));
  if (Math.max(width, height) <= LONGEST_SIDE) return { label, image: { width, height, data } };
  const sharp = loadSharp();
  const small = sharp(data, { raw: { width, height, channels: CHANNELS } }).resize(LONGEST_SIDE, LONGEST_SIDE, {
    fit: "inside",
  });
  const { data: pixels, info } = await small.raw().toBuffer({ resolveWithObject: true });
  return { label, image: { width: info.width, height: info.height, data: pixels } };
}

/** Composes cells row by row, `inRow` of them staying side by side in a row. There must be one cell at least. */
export function contactSheet(cells: readonly SheetCell[], { inRow = 1 }: { inRow?: number } = {}): Image {
  const cellWidth = Math.max(NARROWEST, ...cells.map(({ image }) => image.width));
  const pictureHeight = Math.max(...cells.map(({ image }) => image.height));
  const step = { x: cellWidth + MARGIN, y: pictureHeight + LABEL_GAP + LINE_HEIGHT + MARGIN };
  const columns = columnsFor(cells.length, { step, inRow });
  const rows = Math.ceil(cells.length / columns);
  const width = columns * step.x + MARGIN;
  const height = rows * step.y + MARGIN;
  const sheet: Image = { width, height, data: new Uint8Array(width * height * CHANNELS).fill(BACKGROUND) };
  cells.forEach(({ label, image }, index) => {
    const left = MARGIN + (index % columns) * step.x;
    const top = MARGIN + Math.floor(index / columns) * step.y;
    paste(sheet, image, {
      x: left + Math.floor((cellWidth - image.width) / 2),
      y: top + Math.floor((pictureHeight - image.height) / 2),
    });
    const text = fitted(label, cellWidth);
    drawText(sheet, text, {
      x: left + Math.floor((cellWidth - textWidth(text)) / 2),
      y: top + pictureHeight + LABEL_GAP,
      shade: INK,
    });
  });
  return sheet;
}

function columnsFor(count: number, { step, inRow }: { step: { x: number; y: number }; inRow: number }): number {
  const choices = Array.from({ length: Math.ceil(count / inRow) }, (_, index) => Math.min((index + 1) * inRow, count));
  const distance = (columns: number) =>
    Math.abs(Math.log((columns * step.x) / (Math.ceil(count / columns) * step.y) / SHAPE));
  return choices.reduce((best, columns) => (distance(columns) < distance(best) ? columns : best));
}

function paste(sheet: Image, image: Image, { x, y }: { x: number; y: number }): void {
  for (let row = 0; row < image.height; row++) {
    const from = row * image.width * CHANNELS;
    sheet.data.set(image.data.subarray(from, from + image.width * CHANNELS), ((y + row) * sheet.width + x) * CHANNELS);
  }
}
