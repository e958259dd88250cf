// Shortcuts without weights: places go into channels and are averaged on the way down, and channels are repeated into places on the way up.
// diffusers v0.42.1 models/autoencoders/autoencoder_kl_qwenimage21.py (QwenImage21AvgDown3D, QwenImage21DupUp3D). A picture is one frame: the
// encoder puts a frame of zeros before it, the decoder leaves out the first of the frames that it makes.
import { gather } from "../../graph/indexing.js";
import { conv2d, upsampleNearest2x } from "../../graph/operators.js";
import type { Value } from "../../graph/value.js";
import { QeditError } from "../../std/errors.js";

/** Sides of a block of places that the way up makes of one. */
const DOUBLE = 2;

/**
 * x [1, c, h, w] with places of side × side and `frames` as channels, counted within each channel, and groups of neighbouring ones averaged to
 * `channels`: [1, channels, h/side, w/side]. A convolution of fixed weights does it in one pass.
 */
export function averageDown(
  x: Value,
  { channels, side, frames }: { readonly channels: number; readonly side: 1 | 2; readonly frames: 1 | 2 },
): Value {
  const from = Number(x.dim(1));
  if (from === channels && side === 1 && frames === 1) return x;
  const places = side * side;
  const averaged = (from * frames * places) / channels;
  const groups = Math.min(from, channels);
  if (from % groups !== 0 || channels % groups !== 0) throw refusal(from, channels);
  const width = from / groups;
  const numbers = new Array<number>(channels * width * places).fill(0);
  for (let channel = 0; channel < channels; channel += 1) {
    const first = Math.floor(channel / (channels / groups)) * width;
    for (let each = 0; each < averaged; each += 1) {
      const index = channel * averaged + each;
      const source = Math.floor(index / (frames * places));
      const isPicture = Math.floor(index / places) % frames === frames - 1;
      if (isPicture) numbers[(channel * width + source - first) * places + (index % places)] = 1 / averaged;
    }
  }
  const weight = x.graph.constant("f32", [channels, width, side, side], numbers).cast(x.dtype);
  return conv2d(x, { weight }, { stride: side, pads: [0, 0, 0, 0], groups });
}

/** x [1, c, h, w] with its channels repeated and spread over places of 2 × 2 and `frames`, of which the last is kept: in the shape of `like`, [1, channels, 2h, 2w]. */
export function duplicateUp(x: Value, { like, frames }: { readonly like: Value; readonly frames: 1 | 2 }): Value {
  const [from, channels] = [Number(x.dim(1)), Number(like.dim(1))];
  const places = DOUBLE * DOUBLE;
  const repeats = (channels * frames * places) / from;
  if (!Number.isInteger(repeats)) throw refusal(from, channels);
  const source = (channel: number, place: number) =>
    Math.floor(((channel * frames + frames - 1) * places + place) / repeats);
  if (repeats % places === 0) {
    const sources = Array.from({ length: channels }, (_, channel) => source(channel, 0));
    const isSame = from === channels && sources.every((each, channel) => each === channel);
    return upsampleNearest2x(isSame ? x : gather(x, x.graph.constant("i64", [channels], sources), 1));
  }
  const sources = Array.from({ length: places * channels }, (_, index) =>
    source(index % channels, Math.floor(index / channels)),
  );
  // Channels last, so that rows and columns stay in their places while channels are cut.
  const spread = gather(x.transpose([0, 2, 3, 1]), x.graph.constant("i64", [sources.length], sources), 3);
  const [rows, columns] = [x.dim(2), x.dim(3)];
  return spread.reshape([1, rows, columns, DOUBLE, DOUBLE, channels]).transpose([0, 5, 1, 3, 2, 4]).reshapeLike(like);
}

function refusal(from: number, to: number): QeditError {
  return new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot build the VAE's shortcut from ${from} to ${to} channels: neither divides the other`,
  );
}
