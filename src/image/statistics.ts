// Tells a broken result (NaN, infinite, one flat colour) from a picture, before it is written as a black file.

/** What pictureStatistics found. min and max are over the finite values, NaN when there are none. */
export interface PictureStatistics {
  /** No value is NaN or infinite. */
  readonly finite: boolean;
  readonly min: number;
  readonly max: number;
  /** All finite values lie within one 8-bit level, so the file would show a single grey or colourless plane. */
  readonly flat: boolean;
}

const ONE_LEVEL = 1 / 255;

/** Looks over the float values of a picture, 0..1 in any layout. */
export function pictureStatistics(pixels: Float32Array): PictureStatistics {
  let min = Infinity;
  let max = -Infinity;
  let finite = true;
  for (const value of pixels) {
    if (!Number.isFinite(value)) finite = false;
    else {
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  if (min > max) return { finite, min: NaN, max: NaN, flat: true };
  return { finite, min, max, flat: max - min < ONE_LEVEL };
}
