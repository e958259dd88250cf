// The memory of what happens after decoding: pictures of the result's size, and masks, beside the input pictures.
import { CHANNELS, type Size } from "../../image/image.js";
import type { SizePlan } from "../../image/resize/size-plan.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";

/** Masks, a byte a pixel: levels of what changed, without specks, with gaps closed (two), and with room for the soft edge. */
const CHANGE_MASKS = 5;
/** Masks, a byte a pixel: that of picture 1 and what it is made through, as measured. */
const GIVEN_MASKS = 2;

/** What finishing takes beside an edit's sizes and settings: its mask, and the channels of what is decoded. */
export interface Decoded {
  readonly mask: Size | undefined;
  readonly channels: number;
}

/** Bytes beside the input pictures at the peak of finishing; `settings` with the region of a mask, see withRegion. */
export function finishBytes(
  { target, images }: SizePlan,
  { keepSize, pasteBack }: Pick<ResolvedSettings, "keepSize" | "pasteBack">,
  { mask, channels }: Decoded,
): number {
  const output = keepSize && images[0] ? images[0].source : target.size;
  const picture = channels * pixels(output);
  // As decode gives it, and with picture 1's own rim.
  if (!pasteBack) return keepSize ? 2 * picture : picture;
  const made = keepSize ? target.box : target.size;
  const masks = mask ? GIVEN_MASKS * pixels(target.box) + pixels(mask) : CHANGE_MASKS * pixels(made);
  // As decode gives it, straightened, and pasted.
  return 3 * picture + masks;
}

/** Bytes of decoded pictures. */
export function decodedBytes(sizes: readonly Size[]): number {
  return CHANNELS * sizes.reduce((sum, size) => sum + pixels(size), 0);
}

function pixels({ width, height }: Size): number {
  return width * height;
}
