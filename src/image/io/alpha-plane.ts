// The transparency of a picture file, beside its colours.
import type { Metadata, Sharp } from "sharp";
import type { AlphaPlane } from "../alpha.js";

const OPAQUE = 255;

/** The alpha of a picture that sharp opens, turned as its EXIF says; undefined where every pixel is opaque. 16 bits are cut to 8, as Pillow does. */
export async function alphaPlane(input: Sharp, { hasAlpha, space }: Metadata): Promise<AlphaPlane | undefined> {
  if (!hasAlpha || space === "cmyk") return undefined;
  const { data, info } = await input
    .autoOrient()
    .toColourspace("srgb")
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  return transparent(everyNth(data, info.channels));
}

/** The alpha of pixels [height, width, 4]; undefined where every pixel is opaque. */
export function alphaOfPixels(rgba: Uint8Array): AlphaPlane | undefined {
  return transparent(everyNth(rgba, 4));
}

function everyNth(data: Uint8Array, channels: number): AlphaPlane {
  const plane = new Uint8Array(data.length / channels);
  for (let pixel = 0, at = channels - 1; pixel < plane.length; pixel++, at += channels) plane[pixel] = data[at]!;
  return plane;
}

function transparent(plane: AlphaPlane): AlphaPlane | undefined {
  return plane.some((alpha) => alpha !== OPAQUE) ? plane : undefined;
}
