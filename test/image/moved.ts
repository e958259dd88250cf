// Pictures with a known zoom and shift, made by windowed sinc sampling: independent of what measures them.
import { CHANNELS, type Image } from "../../src/image/image.js";

const LOBES = 4;

/** The picture zoomed about its centre and then shifted right and down, pixels, edges repeated. */
export function movedPicture(image: Image, { zoom, x, y }: { zoom: number; x: number; y: number }): Image {
  const across = along(image, { axis: 0, zoom, shift: x });
  return along(across, { axis: 1, zoom, shift: y });
}

function along(
  { width, height, data }: Image,
  { axis, zoom, shift }: { axis: 0 | 1; zoom: number; shift: number },
): Image {
  const length = axis === 0 ? width : height;
  const stride = axis === 0 ? CHANNELS : CHANNELS * width;
  const centre = (length - 1) / 2;
  const out = new Uint8Array(data.length);
  for (let i = 0; i < length; i++) {
    const at = (i - centre - shift) / zoom + centre;
    const first = Math.floor(at) - LOBES + 1;
    const weights = Array.from(
      { length: 2 * LOBES },
      (_, tap) => sinc(first + tap - at) * sinc((first + tap - at) / LOBES),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const others = axis === 0 ? height : width;
    for (let other = 0; other < others; other++) {
      const base = other * (axis === 0 ? CHANNELS * width : CHANNELS);
      for (let channel = 0; channel < CHANNELS; channel++) {
        const value =
          weights.reduce(
            (sum, weight, tap) =>
              sum + weight * data[base + Math.min(Math.max(first + tap, 0), length - 1) * stride + channel]!,
            0,
          ) / total;
        out[base + i * stride + channel] = Math.min(Math.max(Math.round(value), 0), 255);
      }
    }
  }
  return { width, height, data: out };
}

function sinc(t: number): number {
  return t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
}
