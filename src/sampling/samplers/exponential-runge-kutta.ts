// Stochastic exponential Runge-Kutta solvers for the clean latent in λ = ln((1 − σ)/σ): SEEDS of two and three stages (Gonzalez et al. 2023,
// arXiv 2305.14267), and exponential Heun, which is their frame with the second stage at the end of the step (ComfyUI since v0.8).

import { weightedSum } from "../float32.js";
import { type Denoise, offsetFirstSigma, type SamplerRun, type Step, stepsOf } from "../sampler.js";
import { halfLogSnr, sigmaOfHalfLogSnr } from "../signal-to-noise.js";

const f32 = Math.fround;

/** How a solver steps. */
interface Solver {
  /** Where in a step, as shares of it in λ, the stages after the first evaluate the model. */
  readonly stages: readonly number[];
  /** Strength η of the noise that is added on the way: 0 for none, else 1. */
  readonly noise: 0 | 1;
  /** Whether the step weighs the first stage and the last; else it takes the last alone. */
  readonly weighsFirst: boolean;
}

/** Two evaluations a step, the second halfway. */
export function seeds2(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return solve(x, denoise, { run, solver: { stages: [f32(1 / 2)], noise: 1, weighsFirst: false } });
}

/** Three evaluations a step, at its start and after one and two thirds of it. */
export function seeds3(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return solve(x, denoise, { run, solver: { stages: [1 / 3, 2 / 3], noise: 1, weighsFirst: true } });
}

/** Exponential Heun of order 2: the second evaluation is at the end of the step. */
export function expHeun2X0(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return solve(x, denoise, { run, solver: { stages: [1], noise: 0, weighsFirst: true } });
}

/** Exponential Heun of order 2 with noise. */
export function expHeun2X0Sde(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return solve(x, denoise, { run, solver: { stages: [1], noise: 1, weighsFirst: true } });
}

interface Solving {
  readonly run: SamplerRun;
  readonly solver: Solver;
}

async function solve(x: Float32Array, denoise: Denoise, { run, solver }: Solving): Promise<Float32Array> {
  const draw = solver.noise > 0 ? run.noise.gaussian() : undefined;
  for (const step of stepsOf(offsetFirstSigma(run))) {
    const first = await denoise(x, step.sigma);
    x = step.next === 0 ? first : await exponentialStep(x, denoise, { step, solver, first, draw });
  }
  return x;
}

interface Stepping {
  readonly step: Step;
  readonly solver: Solver;
  /** The model's prediction at the start of the step. */
  readonly first: Float32Array;
  readonly draw: (() => Float32Array) | undefined;
}

async function exponentialStep(
  x: Float32Array,
  denoise: Denoise,
  { step, solver, first, draw }: Stepping,
): Promise<Float32Array> {
  const { stages, noise, weighsFirst } = solver;
  const [from, to] = [halfLogSnr(step.sigma), halfLogSnr(step.next)];
  const length = f32(to - from);
  const stretched = f32(length * (noise + 1));
  const path = draw && noisePath(length, draw);

  let last = { share: 0, prediction: first };
  for (const share of [...stages, "end"] as const) {
    const isEnd = share === "end";
    const reached = isEnd ? 1 : share;
    const lambda = isEnd ? to : lerp(from, to, reached);
    const sigma = isEnd ? step.next : sigmaOfHalfLogSnr(lambda);
    const alpha = f32(sigma * f32(Math.exp(lambda)));
    const kept = f32(f32(sigma / step.sigma) * f32(Math.exp(f32(-reached * length) * noise)));
    const h = f32(-reached * stretched);
    const target = pulled({ h, first, last, reached, weighsFirst: !isEnd || weighsFirst });
    let stepped = weightedSum([kept, x], [-alpha, target]);
    if (path !== undefined) stepped = weightedSum([1, stepped], [sigma, path(reached)]);
    if (isEnd) return stepped;
    last = { share: reached, prediction: await denoise(stepped, sigma) };
  }
  throw new Error("internal: a step without an end");
}

interface Pull {
  /** −share·h·(1 + η). */
  readonly h: number;
  readonly first: Float32Array;
  /** The newest prediction, at a share of the step; the first one before there is another. */
  readonly last: { readonly share: number; readonly prediction: Float32Array };
  readonly reached: number;
  readonly weighsFirst: boolean;
}

// h·φ1(h)·D₁ + (share reached / share of D)·h·φ2(h)·(D − D₁): what is added to x, over −α.
function pulled({ h, first, last, reached, weighsFirst }: Pull): Float32Array {
  const whole = f32(Math.expm1(h));
  if (last.share === 0) return weightedSum([whole, first]);
  if (!weighsFirst) return weightedSum([whole, last.prediction]);
  const newest = f32(f32(f32(whole - h) / h) * (reached / last.share));
  return weightedSum([f32(whole - newest), first], [newest, last.prediction]);
}

// The noise of a step, of variance 1 − exp(−2·share·h) at each share: the noise so far fades, and new noise is drawn for each stretch.
function noisePath(length: number, draw: () => Float32Array): (share: number) => Float32Array {
  let before: { share: number; noise: Float32Array } | undefined;
  return (share) => {
    const stretch = f32((before?.share ?? 0) - share) * length;
    const fresh = Math.sqrt(-f32(Math.expm1(f32(2 * stretch))));
    const noise = before
      ? weightedSum([f32(Math.exp(f32(stretch))), before.noise], [fresh, draw()])
      : weightedSum([fresh, draw()]);
    before = { share, noise };
    return noise;
  };
}

// As torch.lerp: from the nearer end.
function lerp(from: number, to: number, share: number): number {
  const difference = f32(to - from);
  return share < 0.5 ? f32(from + f32(f32(share) * difference)) : f32(to - f32(difference * f32(1 - f32(share))));
}
