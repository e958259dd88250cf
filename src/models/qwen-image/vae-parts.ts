// The VAE's networks in two parts, one of which works on tiles: where they are cut, and how far the layers of the local part see.
// Read from the keys and shapes of the file, as the graphs are (vae.ts).
import type { Weights } from "../../checkpoint/weights.js";

/**
 * Which part of a network a graph is. The middle attends over the whole picture, all other layers see a few pixels around; what is
 * `local` may work on tiles with a margin (see localReach) and gives the same as on the whole, what is `global` may not.
 */
export type VaePart = "all" | "global" | "local";

/** How the local part of a network works on tiles. */
export interface LocalReach {
  /** Channels of the features between the parts. */
  readonly channels: number;
  /** Pixels along one side of a feature. */
  readonly ratio: number;
  /** Features around a tile that a result inside it may depend on. */
  readonly margin: number;
}

/** Where a network is cut in two, counted in layers of `encoder.downsamples` or `decoder.upsamples`. */
export interface Cut extends LocalReach {
  /** Downsamples or upsamples before the cut. */
  readonly layers: number;
}

/** Reads from the layers of a network how far its local part sees. */
export function localReach(w: Weights, network: "encoder" | "decoder"): LocalReach {
  const { channels, ratio, margin } = network === "encoder" ? encoderCut(w) : decoderCut(w);
  return { channels, ratio, margin };
}

/** The encoder's cut, before its first attention. In pixels a 3×3 convolution sees 1 around, a halving one up to 2. */
export function encoderCut(w: Weights): Cut {
  const list = w.at("encoder.downsamples");
  let [ratio, reach, layers, channels] = [1, 1, 0, w.shape("encoder.conv1.weight")[0]!];
  for (; layers < w.count("encoder.downsamples") && !list.at(layers).has("to_qkv"); layers += 1) {
    const each = list.at(layers);
    reach += 2 * ratio;
    if (each.has("resample")) ratio *= 2;
    channels = channelsAfter(each) ?? channels;
  }
  return { layers, channels, ratio, margin: Math.ceil(reach / ratio) };
}

/** The decoder's cut, after its last attention. Reach in features at the cut, which every doubling makes smaller. */
export function decoderCut(w: Weights): Cut {
  const list = w.at("decoder.upsamples");
  const count = w.count("decoder.upsamples");
  const layers =
    Array.from({ length: count }, (_, index) => index + 1).findLast((end) => list.at(end - 1).has("to_qkv")) ?? 0;
  let channels = w.shape("decoder.conv1.weight")[0]!;
  for (let index = 0; index < layers; index += 1) channels = channelsAfter(list.at(index)) ?? channels;
  let [ratio, reach] = [1, 0];
  for (let index = layers; index < count; index += 1) {
    const isDoubling = list.at(index).has("resample");
    if (isDoubling) ratio *= 2;
    reach += (isDoubling ? 1 : 2) / ratio;
  }
  return { layers, channels, ratio, margin: Math.ceil(reach + 1 / ratio) };
}

function channelsAfter(layer: Weights): number | undefined {
  const name = ["resample.1.weight", "residual.6.weight"].find((each) => layer.has(each));
  return name === undefined ? undefined : layer.shape(name)[0]!;
}
