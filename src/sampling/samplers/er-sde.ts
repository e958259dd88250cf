// Extended reverse-time SDE solver, order 3, for variance-preserving time (Cui et al. 2023, arXiv 2309.06169).

import { differenceOver, weightedSum } from "../float32.js";
import { type Denoise, offsetFirstSigma, type SamplerRun, type Step, stepsOf } from "../sampler.js";
import { halfLogSnr } from "../signal-to-noise.js";

const f32 = Math.fround;

/** Points of the sums that stand for the integrals. */
const POINTS = 200;

interface History {
  readonly denoised: Float32Array;
  /** First difference quotient of the predictions; from the second step on. */
  readonly slope?: Float32Array;
}

/** Taylor steps in λ = σ/(1 − σ), of order 1, 2, then 3; the step to σ' = 0 takes the prediction. */
export async function erSde(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  const noise = run.noise.gaussian();
  const offset = offsetFirstSigma(run);
  const lambdas = offset.sigmas.map((sigma) => Math.exp(-halfLogSnr(sigma)));
  let history: History | undefined;
  for (const step of stepsOf(offset)) {
    const denoised = await denoise(x, step.sigma);
    if (step.next === 0) {
      x = denoised;
      continue;
    }
    const weights = firstOrderWeights(step, lambdas);
    const { stepped, slope } = taylorStep(x, { index: step.index, lambdas, weights, denoised, history });
    x = weightedSum([1, stepped], [weights.deviation, weightedSum([weights.alpha, noise()])]);
    history = { denoised, ...(slope && { slope }) };
  }
  return x;
}

interface TaylorInput {
  readonly index: number;
  readonly lambdas: Float32Array;
  readonly weights: FirstOrderWeights;
  readonly denoised: Float32Array;
  readonly history: History | undefined;
}

// The deterministic part: stage 1 from the prediction, stage 2 from its slope in λ, stage 3 from the slope's slope.
function taylorStep(x: Float32Array, input: TaylorInput): { stepped: Float32Array; slope?: Float32Array } {
  const { index, lambdas, denoised, history } = input;
  const { alpha, kept, taken } = input.weights;
  let stepped = weightedSum([kept, x], [taken, denoised]);
  if (history === undefined) return { stepped };
  const [from, to] = [lambdas[index]!, lambdas[index + 1]!];
  const length = f32(to - from);
  const { first, second } = integrals(from, to);
  const slope = differenceOver(denoised, history.denoised, f32(from - lambdas[index - 1]!));
  stepped = weightedSum([1, stepped], [f32(alpha * f32(length + f32(first * noiseScale(to)))), slope]);
  if (history.slope === undefined) return { stepped, slope };
  const bend = differenceOver(slope, history.slope, f32(f32(from - lambdas[index - 2]!) / 2));
  const bendWeight = f32(f32(f32(length * length) / 2) + f32(second * noiseScale(to)));
  stepped = weightedSum([1, stepped], [f32(alpha * bendWeight), bend]);
  return { stepped, slope };
}

interface FirstOrderWeights {
  readonly alpha: number;
  /** Of x and of the prediction. */
  readonly kept: number;
  readonly taken: number;
  /** Of the added noise, before it is scaled by alpha. */
  readonly deviation: number;
}

function firstOrderWeights({ index, sigma, next }: Step, lambdas: Float32Array): FirstOrderWeights {
  const [from, to] = [lambdas[index]!, lambdas[index + 1]!];
  const alpha = f32(next / to);
  const ratio = f32(noiseScale(to) / noiseScale(from));
  const variance = f32(f32(to * to) - f32(f32(from * from) * f32(ratio * ratio)));
  const kept = f32(f32(alpha / f32(sigma / from)) * ratio);
  // rounding can make a variance of 0 negative
  const deviation = variance > 0 ? f32(Math.sqrt(variance)) : 0;
  return { alpha, kept, taken: f32(alpha * f32(1 - ratio)), deviation };
}

// g(λ) = λ·(exp(λ^0.3) + 10), the paper's choice for order 3
function noiseScale(lambda: number): number {
  return f32(lambda * f32(f32(Math.exp(f32(lambda ** 0.3))) + 10));
}

// Left sums of 1/g and (p − λ)/g over the points p from λ' back to λ.
function integrals(from: number, to: number): { first: number; second: number } {
  const size = f32(-f32(to - from) / POINTS);
  let first = 0;
  let second = 0;
  for (let k = 0; k < POINTS; k++) {
    const position = f32(to + f32(k * size));
    const scale = noiseScale(position);
    first += f32(1 / scale);
    second += f32(f32(position - from) / scale);
  }
  return { first: f32(f32(first) * size), second: f32(f32(second) * size) };
}
