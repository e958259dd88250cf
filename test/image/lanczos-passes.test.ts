// The WebAssembly of Lanczos resampling: its sums are those of plain integers.
import { expect, test } from "vitest";
import { lanczos } from "../../src/image/resize/lanczos.js";
import { resampledBands, type Taps } from "../../src/image/resize/lanczos-passes.js";

interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 3 | 4;
  readonly data: Uint8Array;
}

const PRECISION = 22;

function resampled(image: Pixels, passes: Parameters<typeof resampledBands>[1]): Uint8Array {
  return Uint8Array.from(Buffer.concat(Array.from(resampledBands(image, passes), ({ data }) => Buffer.from(data))));
}

// A pass along one side, a sum at a time.
function pass({ width, height, channels, data }: Pixels, taps: Taps, side: "width" | "height"): Pixels {
  const size = { width, height, [side]: taps.starts.length };
  const result = new Uint8Array(size.width * size.height * channels);
  for (let y = 0; y < size.height; y++)
    for (let x = 0; x < size.width; x++)
      for (let channel = 0; channel < channels; channel++) {
        const at = side === "width" ? x : y;
        let sum = 1 << (PRECISION - 1);
        for (let tap = 0; tap < taps.counts[at]!; tap++) {
          const from = taps.starts[at]! + tap;
          const pixel = side === "width" ? y * width + from : from * width + x;
          sum = (sum + Math.imul(taps.weights[at * taps.stride + tap]!, data[pixel * channels + channel]!)) | 0;
        }
        result[(y * size.width + x) * channels + channel] = Math.min(Math.max(sum >> PRECISION, 0), 255);
      }
  return { ...size, channels, data: result };
}

function noise(width: number, height: number, channels: 3 | 4): Pixels {
  let state = 12345;
  const data = Uint8Array.from({ length: width * height * channels }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    // Black and white next to each other overshoot most.
    return state >>> 31 === 0 ? ((state >>> 16) & 1) * 255 : (state >>> 20) & 255;
  });
  return { width, height, channels, data };
}

// Weights of no filter: sums that leave the bytes on both sides.
function anyTaps(from: number, to: number): Taps {
  const stride = 5;
  const starts = Int32Array.from({ length: to }, (_, at) => Math.min(Math.floor((at * from) / to), from - 1));
  const counts = starts.map((start, at) => Math.min(1 + (at % stride), from - start));
  const weights = Int32Array.from({ length: to * stride }, (_, at) => ((at * 7919) % 9_000_000) - 3_000_000);
  return { starts, counts, weights, stride };
}

test.each([
  [1, 1, 3, 1],
  [5, 3, 17, 2],
  [64, 67, 33, 130],
  [130, 129, 7, 65],
  [31, 200, 31, 9],
  [200, 5, 16, 5],
] as const)("%ix%i pixels to %ix%i have the sums of plain integers", (width, height, wide, tall) => {
  for (const channels of [3, 4] as const) {
    const image = noise(width, height, channels);
    const [horizontal, vertical] = [anyTaps(width, wide), anyTaps(height, tall)];
    const across = pass(image, horizontal, "width");
    expect(resampled(image, { horizontal, vertical })).toEqual(pass(across, vertical, "height").data);
    expect(resampled(image, { horizontal, vertical: undefined })).toEqual(across.data);
    expect(resampled(image, { horizontal: undefined, vertical })).toEqual(pass(image, vertical, "height").data);
  }
});

test("a flat picture stays flat, whatever its size", () => {
  for (const [width, height] of [
    [1, 1],
    [3, 500],
    [777, 2],
  ] as const) {
    const data = new Uint8Array(width * height * 3).fill(200);
    const { data: resized } = lanczos({ width, height, data }, { width: 37, height: 41 });
    expect(resized.every((value) => value === 200)).toBe(true);
  }
});
