// What a GIF says of its first frame that libvips does not give out.
// Format: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
import type { Size } from "../image.js";

const EXTENSION = 0x21;
const IMAGE_DESCRIPTOR = 0x2c;
const GRAPHIC_CONTROL = 0xf9;
const PALETTE_PRESENT = 0x80;

/** The first frame. */
export interface GifFrame extends Size {
  /** Where it lies on the screen. */
  readonly left: number;
  readonly top: number;
  /** Red, green and blue that the palette has for its transparent index; undefined where it has none. */
  readonly transparent: readonly number[] | undefined;
  /** Of the palette's first entry, which Pillow leaves where an opaque frame does not cover the screen. */
  readonly rest: readonly number[];
}

/** The first frame of a file; undefined where it has none. bytes are the whole file. */
export function firstFrame(bytes: Uint8Array): GifFrame | undefined {
  const at = (offset: number) => bytes[offset] ?? 0;
  const pair = (offset: number) => at(offset) + 256 * at(offset + 1);
  let palette = 13;
  let position = palette + paletteLength(at(10));
  let index: number | undefined;
  while (at(position) === EXTENSION) {
    // Flags, delay and index follow the block's length; bit 0 of the flags says that the index counts.
    if (at(position + 1) === GRAPHIC_CONTROL) index = at(position + 3) & 1 ? at(position + 6) : undefined;
    position += 2;
    while (at(position) !== 0) position += at(position) + 1;
    position += 1;
  }
  if (at(position) !== IMAGE_DESCRIPTOR) return undefined;
  const [left, top, width, height] = [1, 3, 5, 7].map((offset) => pair(position + offset)) as [
    number,
    number,
    number,
    number,
  ];
  if (at(position + 9) & PALETTE_PRESENT) palette = position + 10;
  const colour = (entry: number) => [0, 1, 2].map((channel) => at(palette + 3 * entry + channel));
  return { left, top, width, height, transparent: index === undefined ? undefined : colour(index), rest: colour(0) };
}

function paletteLength(flags: number): number {
  return flags & PALETTE_PRESENT ? 3 * 2 ** ((flags & 7) + 1) : 0;
}
