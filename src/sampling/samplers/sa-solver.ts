// SA-Solver (Xue et al. 2023, arXiv 2309.05019): a stochastic Adams predictor and corrector for the clean latent in λ = ln((1 − σ)/σ),
// as ComfyUI has it: predictor of order 3, corrector of order 4, noise between a fifth and four fifths of the run.

import { type Term, weightedSum } from "../float32.js";
import { solve } from "../linear-system.js";
import { type Denoise, offsetFirstSigma, type SamplerRun, stepsOf } from "../sampler.js";
import { halfLogSnr } from "../signal-to-noise.js";

const f32 = Math.fround;

const PREDICTOR_ORDER = 3;
const CORRECTOR_ORDER = 4;
/** The share of the run between which noise is added: after the level of the first, up to that of the second. */
const NOISY_SHARES = [0.2, 0.8] as const;

/** Predict, evaluate, correct. */
export function saSolver(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return adams(x, denoise, { run, evaluatesCorrected: false });
}

/** Predict, evaluate, correct, evaluate again. */
export function saSolverPece(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return adams(x, denoise, { run, evaluatesCorrected: true });
}

interface Mode {
  readonly run: SamplerRun;
  /** Whether the model is evaluated once more at the corrected state. */
  readonly evaluatesCorrected: boolean;
}

/** The model's prediction at a level. */
interface Prediction {
  readonly lambda: number;
  readonly denoised: Float32Array;
}

/** The step that led to a level, which the corrector takes again. */
interface Move {
  readonly from: { readonly sigma: number; readonly lambda: number };
  readonly tau: 0 | 1;
  readonly noise: Float32Array | undefined;
}

async function adams(x: Float32Array, denoise: Denoise, { run, evaluatesCorrected }: Mode): Promise<Float32Array> {
  const offset = offsetFirstSigma(run);
  const draw = run.noise.gaussian();
  const total = run.sigmas.length - 1;
  const tauOf = noiseStrength(run);
  const endsAtZero = run.sigmas[total] === 0;
  let predictions: readonly Prediction[] = [];
  let move: Move | undefined;
  let predicted = x;
  for (const { index, sigma, next } of stepsOf(offset)) {
    const here = { sigma, lambda: halfLogSnr(sigma) };
    let denoised = await denoise(predicted, sigma);
    predictions = [...predictions, { lambda: here.lambda, denoised }].slice(-CORRECTOR_ORDER);
    // orders fall towards a last level of 0, which keeps the end stable
    const known = (order: number, left: number) => Math.min(order, predictions.length, endsAtZero ? left : order);

    if (move === undefined || (next === 0 && !evaluatesCorrected)) x = predicted;
    else {
      const used = predictions.slice(-known(CORRECTOR_ORDER, total - index));
      x = adamsStep(x, { ...move, to: here, predictions: used });
      if (evaluatesCorrected) {
        denoised = await denoise(x, sigma);
        predictions = [...predictions.slice(0, -1), { lambda: here.lambda, denoised }];
      }
    }

    if (next === 0) {
      predicted = denoised;
      continue;
    }
    const to = { sigma: next, lambda: halfLogSnr(next) };
    const tau = tauOf(next);
    const deviation = Math.sqrt(-f32(Math.expm1(f32(-2 * f32(to.lambda - here.lambda)))));
    const noise = tau === 0 ? undefined : weightedSum([deviation, weightedSum([next, draw()])]);
    move = { from: here, tau, noise };
    const used = predictions.slice(-known(PREDICTOR_ORDER, total - 1 - index));
    predicted = adamsStep(x, { ...move, to, predictions: used });
  }
  return predicted;
}

// τ of the step that ends at a level: 1 where noise is added, else 0.
function noiseStrength({ table }: SamplerRun): (sigma: number) => 0 | 1 {
  const [start, end] = NOISY_SHARES.map((share) => table.percentToSigma(share)) as [number, number];
  return (sigma) => (start >= sigma && sigma > end ? 1 : 0);
}

interface AdamsStep extends Move {
  readonly to: { readonly sigma: number; readonly lambda: number };
  readonly predictions: readonly Prediction[];
}

// (σ'/σ)·exp(−τ²h)·x + Σ b·D, and the noise of the step
function adamsStep(x: Float32Array, { from, to, tau, noise, predictions }: AdamsStep): Float32Array {
  const length = f32(to.lambda - from.lambda);
  const alpha = f32(to.sigma * f32(Math.exp(to.lambda)));
  const weights = predictionWeights(
    predictions.map(({ lambda }) => lambda),
    { from: from.lambda, to: to.lambda, tau },
  );
  const [first, ...others] = predictions.map(({ denoised }, i): Term => [f32(alpha * weights[i]!), denoised]);
  const kept = f32(f32(to.sigma / from.sigma) * f32(Math.exp(-tau * length)));
  const stepped = weightedSum([kept, x], [1, weightedSum(first!, ...others)]);
  return noise === undefined ? stepped : weightedSum([1, stepped], [1, noise]);
}

interface Interval {
  readonly from: number;
  readonly to: number;
  readonly tau: 0 | 1;
}

// The integrals of the Lagrange polynomials through the predictions, weighed by exp(m·λ) with m = 1 + τ², over exp(m·λ'): by the integrals
// of the powers, I_p = λ'^p − λ^p·exp(−m·h) − (p/m)·I_(p−1).
function predictionWeights(lambdas: readonly number[], { from, to, tau }: Interval): number[] {
  const m = 1 + tau;
  const faded = f32(Math.exp(f32(-m * f32(to - from))));
  const powers = lambdas.map((_, p) => f32(f32(to ** p) - f32(f32(from ** p) * faded)));
  const integrals = powers.map((_, p) => {
    // unrolled from the recurrence: (−1)^(p−k)·(p!/k!)/m^(p−k)
    let sum = 0;
    let factor = 1;
    const terms: number[] = [];
    for (let k = p; k >= 0; k--) {
      terms.unshift(f32(factor * powers[k]!));
      factor *= -k / m;
    }
    for (const term of terms) sum = f32(sum + term);
    return sum;
  });
  const vandermonde = lambdas.map((_, p) => lambdas.map((lambda) => f32(lambda ** p)));
  return solve(vandermonde, integrals);
}
