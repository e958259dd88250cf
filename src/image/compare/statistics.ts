// Detects a broken result, of one flat colour, before it is written as a black file.

/** What pictureStatistics found: the least and the greatest level. */
export interface PictureStatistics {
  readonly min: number;
  readonly max: number;
  /** All levels are one, or two neighbours, so that the file would show a single grey or colourless plane. */
  readonly flat: boolean;
}

/** Looks over the bytes of one channel of a picture [height, width, channels]. */
export function pictureStatistics(
  bytes: Uint8Array,
  { channel, channels }: { channel: number; channels: number },
): PictureStatistics {
  let [min, max] = [255, 0];
  for (let at = channel; at < bytes.length; at += channels) {
    const level = bytes[at]!;
    if (level < min) min = level;
    if (level > max) max = level;
  }
  return { min, max, flat: max - min <= 1 };
}
