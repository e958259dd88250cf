// A picture as the content of a result: the file itself, or a smaller JPEG of a large one.
import { MIME_TYPES } from "../../edit/finish/picture-encoding.js";
import type { Image } from "../../image/image.js";
import { readImage } from "../../image/io/read.js";
import { encodePicture } from "../../image/io/write.js";
import { resizeTo } from "../../image/resize/resize.js";

/** Most bytes of a picture in a result; clients hand it to a model, and some refuse more. */
const MOST_BYTES = 1024 ** 2;
/** Pixels of the longest side of a preview, the largest that fits. */
const SIDES = [2048, 1536, 1024, 768, 512, 256];
const QUALITY = 85;

/** Image content: base64 and MIME type. */
export interface ShownPicture {
  readonly data: string;
  readonly mimeType: string;
  /** Whether it is the whole file. */
  readonly isWhole: boolean;
}

/** The picture of a result, at most a megabyte. */
export async function shownPicture(bytes: Uint8Array, mimeType: string): Promise<ShownPicture> {
  if (bytes.length <= MOST_BYTES) return { data: base64(bytes), mimeType, isWhole: true };
  const image = await readImage(bytes, "the result");
  for (const side of SIDES) {
    const preview = await encodePicture(within(image, side), { format: "jpeg", quality: QUALITY });
    if (preview.length <= MOST_BYTES) return { data: base64(preview), mimeType: MIME_TYPES.jpeg, isWhole: false };
  }
  throw new Error(`internal: a preview of ${SIDES.at(-1)} pixels takes more than ${MOST_BYTES} bytes`);
}

function within(image: Image, side: number): Image {
  const scale = side / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  const scaled = (pixels: number) => Math.max(1, Math.round(pixels * scale));
  return resizeTo(image, { width: scaled(image.width), height: scaled(image.height) });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}
