// The logarithms of noise levels in which exponential integrators take their steps, rounded as torch rounds them.

const f32 = Math.fround;

/** −ln σ; infinite for 0. */
export function negativeLog(sigma: number): number {
  return -f32(Math.log(sigma));
}

/** Half the logarithm of the signal-to-noise ratio of a flow model, ln((1 − σ)/σ); σ below 1. */
export function halfLogSnr(sigma: number): number {
  return -f32(Math.log(f32(sigma / f32(1 - sigma))));
}

/** The noise level of half a logarithm of the signal-to-noise ratio: 1/(1 + exp λ), the inverse of halfLogSnr. */
export function sigmaOfHalfLogSnr(lambda: number): number {
  return f32(1 / f32(1 + f32(Math.exp(lambda))));
}
