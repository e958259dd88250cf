// Where the networks of Qwen-Image's VAE are cut in two, and how far the layers of the local part see. Read from the keys and shapes of the
// file, as the graphs are (vae.ts).
import type { Weights } from "../../checkpoint/weights.js";
import type { Cut } from "../vae-family.js";

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
