// At which noise levels a run will evaluate its model: samplers choose them from the schedule alone, never from what they sample.
import { float32 } from "../std/tensor.js";
import { type SamplingSettings, sampleLatent } from "./driver.js";

/** The noise levels, each once, in the order of their first evaluation: found by a run over one value with a model that gives 0. */
export async function evaluatedSigmas(settings: SamplingSettings): Promise<number[]> {
  const sigmas = new Set<number>();
  const velocity = async (x: Float32Array, sigma: number) => {
    // As the model is fed: float32.
    sigmas.add(Math.fround(sigma));
    return new Float32Array(x.length);
  };
  await sampleLatent(
    velocity,
    { ...settings, cfg: 1, cfgNorm: undefined },
    { latent: float32([1, 1, 1, 1]), mean: [0], std: [1] },
  );
  return [...sigmas];
}
