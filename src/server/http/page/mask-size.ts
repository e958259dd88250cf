// How large a mask is painted: as the picture, or smaller, in the same shape.

/** Longest side of a mask in pixels: canvases of phones take no more than some 16 megapixels. */
const LONGEST_SIDE = 2048;
/** Shortest side: rounded to pixels, the shape must stay within 1 % of the picture's. */
const SHORTEST_SIDE = 128;

/** Width and height of the mask of a picture. */
export function maskSize({ width, height }: { readonly width: number; readonly height: number }): {
  readonly width: number;
  readonly height: number;
} {
  const scale = Math.min(1, Math.max(LONGEST_SIDE / Math.max(width, height), SHORTEST_SIDE / Math.min(width, height)));
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
}
