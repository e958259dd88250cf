// Letters of 5x7 dots, as character displays draw them: labels look the same on machines that have no fonts, as in containers.
import { CHANNELS, type Image } from "../image.js";

/** Columns of dots for each character from the space on, two hexadecimal digits a column, the lowest bit on top. */
const COLUMNS =
  "0000000000 00005F0000 0007000700 147F147F14 242A7F2A12 2313086462 3649552250 0005030000 001C224100 0041221C00 14083E0814 08083E0808 " +
  "0050300000 0808080808 0060600000 2010080402 3E5149453E 00427F4000 4261514946 2141454B31 1814127F10 2745454539 3C4A494930 0171090503 " +
  "3649494936 064949291E 0036360000 0056360000 0814224100 1414141414 0041221408 0201510906 324979413E 7E1111117E 7F49494936 3E41414122 " +
  "7F4141221C 7F49494941 7F09090901 3E4149497A 7F0808087F 00417F4100 2040413F01 7F08142241 7F40404040 7F020C027F 7F0408107F 3E4141413E " +
  "7F09090906 3E4151215E 7F09192946 4649494931 01017F0101 3F4040403F 1F2040201F 3F4038403F 6314081463 0708700807 6151494543 007F414100 " +
  "0204081020 0041417F00 0402010204 4040404040 0001020400 2054545478 7F48444438 3844444420 384444487F 3854545418 087E090102 0C5252523E " +
  "7F08040478 00447D4000 2040443D00 7F10284400 00417F4000 7C04180478 7C08040478 3844444438 7C14141408 081414187C 7C08040408 4854545420 " +
  "043F444020 3C4040207C 1C2040201C 3C4030403C 4428102844 0C5050503C 4464544C44 0008364100 00007F0000 0041360800 1008081008";

const GLYPHS: readonly (readonly number[])[] = COLUMNS.split(" ").map((glyph) =>
  glyph.match(/../g)!.map((column) => Number.parseInt(column, 16)),
);

/** Dots of a character with the gap after it, across and down. */
const ADVANCE = 6;
const ROWS = 7;

/** Pixels along the side of a dot. */
const DOT = 2;

/** Height of a line of text in pixels. */
export const LINE_HEIGHT = ROWS * DOT;

/** What a label shows of a text: accents dropped, other characters as `?`, the middle left out when it is wider than `width` pixels. */
export function fitted(text: string, width: number): string {
  const plain = text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/[^ -~]/gu, "?");
  const most = Math.floor((width + DOT) / (ADVANCE * DOT));
  if (plain.length <= most) return plain;
  if (most <= 4) return plain.slice(0, most);
  const tail = Math.floor((most - 2) / 2);
  return `${plain.slice(0, most - 2 - tail)}..${plain.slice(plain.length - tail)}`;
}

/** Width of a fitted text in pixels. */
export function textWidth(text: string): number {
  return Math.max(text.length * ADVANCE - 1, 0) * DOT;
}

/** Draws a fitted text in one shade of grey into a picture, its upper left corner at x, y. */
export function drawText(image: Image, text: string, { x, y, shade }: { x: number; y: number; shade: number }): void {
  [...text].forEach((character, index) => {
    const glyph = GLYPHS[character.charCodeAt(0) - 32] ?? [];
    glyph.forEach((column, across) => {
      for (let row = 0; row < ROWS; row++)
        if ((column >> row) & 1) fillDot(image, { x: x + (index * ADVANCE + across) * DOT, y: y + row * DOT, shade });
    });
  });
}

function fillDot({ data, width, height }: Image, { x, y, shade }: { x: number; y: number; shade: number }): void {
  for (let row = y; row < Math.min(y + DOT, height); row++) {
    for (let column = x; column < Math.min(x + DOT, width); column++)
      data.fill(shade, (row * width + column) * CHANNELS, (row * width + column + 1) * CHANNELS);
  }
}
