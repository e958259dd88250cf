// The colour that a GIF stores under its transparent pixels, which libvips does not give out.
// Format: https://www.w3.org/Graphics/GIF/spec-gif89a.txt

const EXTENSION = 0x21;
const IMAGE_DESCRIPTOR = 0x2c;
const GRAPHIC_CONTROL = 0xf9;
const PALETTE_PRESENT = 0x80;

/** Red, green and blue of the first frame's transparent index, or undefined when the frame has none. bytes are the whole file. */
export function transparentColour(bytes: Uint8Array): readonly number[] | undefined {
  const at = (offset: number) => bytes[offset] ?? 0;
  const screenFlags = at(10);
  let palette = 13;
  let position = palette + paletteLength(screenFlags);
  let index: number | undefined;
  while (at(position) === EXTENSION) {
    // Flags, delay and index follow the block's length; bit 0 of the flags says that the index counts.
    if (at(position + 1) === GRAPHIC_CONTROL) index = at(position + 3) & 1 ? at(position + 6) : undefined;
    position += 2;
    while (at(position) !== 0) position += at(position) + 1;
    position += 1;
  }
  if (at(position) !== IMAGE_DESCRIPTOR || index === undefined) return undefined;
  const frameFlags = at(position + 9);
  if (frameFlags & PALETTE_PRESENT) palette = position + 10;
  return [at(palette + index * 3), at(palette + index * 3 + 1), at(palette + index * 3 + 2)];
}

function paletteLength(flags: number): number {
  return flags & PALETTE_PRESENT ? 3 * 2 ** ((flags & 7) + 1) : 0;
}
