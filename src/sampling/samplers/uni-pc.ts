// UniPC, multistep, order 3 (Zhao et al. 2023, arXiv 2302.04867), in the variance-preserving frame that
// comfy/extra_samplers/uni_pc.py of v0.3.64 puts around any model: α = 1/√(1 + σ²), x̃ = α·x.

import { QeditError } from "../../std/errors.js";
import { differenceOver, type Term, weightedSum } from "../float32.js";
import { solve } from "../linear-system.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

const f32 = Math.fround;

const MAX_ORDER = 3;
/** Stands for a last level of 0, whose logarithm would be infinite. */
const LAST_SIGMA = f32(0.001);

/** UniPC with B(h) = h. */
export function uniPc(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return unifiedPredictorCorrector(x, denoise, { run, variant: "bh1" });
}

/** UniPC with B(h) = exp(h) − 1. */
export function uniPcBh2(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  return unifiedPredictorCorrector(x, denoise, { run, variant: "bh2" });
}

/** A level in the solver's frame. */
interface Node {
  readonly alpha: number;
  readonly deviation: number;
  readonly lambda: number;
  readonly sigma: number;
}
/** The model's prediction of the clean latent at a level. */
interface Prediction extends Node {
  readonly denoised: Float32Array;
}
type Variant = "bh1" | "bh2";

interface Solver {
  readonly run: SamplerRun;
  readonly variant: Variant;
}

async function unifiedPredictorCorrector(
  x: Float32Array,
  denoise: Denoise,
  { run, variant }: Solver,
): Promise<Float32Array> {
  const total = run.sigmas.length - 1;
  if (total < 2) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot sample 1 step with uni_pc or uni_pc_bh2: they need at least 2", {
      hint: "Use the sampler euler",
    });
  }
  const endsAtZero = run.sigmas[total] === 0;
  const nodes = Array.from(run.sigmas, (sigma, k) => nodeAt(k === total && endsAtZero ? LAST_SIGMA : sigma));
  const maxOrder = Math.min(MAX_ORDER, total - 1);
  const predictionAt = async (state: Float32Array, node: Node): Promise<Prediction> => ({
    ...node,
    denoised: await predictClean(state, denoise, node),
  });

  let predictions: readonly Prediction[] = [];
  let state: Float32Array = x.map((value) => value / f32(Math.sqrt(f32(1 + square(nodes[0]!.sigma)))));
  for (const { index } of stepsOf(run)) {
    const node = nodes[index]!;
    if (index === 0) {
      predictions = [await predictionAt(state, node)];
    } else {
      const order = index < maxOrder ? index : Math.min(maxOrder, total + 1 - index);
      const move = moveTo(node, predictions.slice(0, order), variant);
      const base = move.base(state);
      const newest = await predictionAt(move.predict(base), node);
      state = move.correct(base, newest.denoised);
      predictions = [newest, ...predictions].slice(0, MAX_ORDER);
    }
    if (index === total - 1) {
      const move = moveTo(nodes[total]!, predictions.slice(0, 1), variant);
      state = move.predict(move.base(state));
    }
  }
  const { alpha } = nodes[total]!;
  // ComfyUI writes 0.001 into the levels themselves, so that the driver's x / (1 − σ_last) divides once more
  const remaining = endsAtZero ? f32(1 - LAST_SIGMA) : 1;
  return state.map((value) => f32(value / alpha) / remaining);
}

function nodeAt(sigma: number): Node {
  const logAlpha = f32(0.5 * f32(Math.log(f32(1 / f32(square(sigma) + 1)))));
  const variance = f32(1 - f32(Math.exp(2 * logAlpha)));
  const alpha = f32(Math.exp(logAlpha));
  return {
    sigma,
    alpha,
    deviation: f32(Math.sqrt(variance)),
    lambda: f32(logAlpha - f32(0.5 * f32(Math.log(variance)))),
  };
}

// By way of the noise, as ComfyUI goes: the rounding of the deviation stays in the prediction.
async function predictClean(
  state: Float32Array,
  denoise: Denoise,
  { sigma, alpha, deviation }: Node,
): Promise<Float32Array> {
  const x = weightedSum([Math.sqrt(f32(square(sigma) + 1)), state]);
  const noise = differenceOver(x, await denoise(x, sigma), sigma);
  return state.map((value, i) => f32(value - f32(deviation * noise[i]!)) / alpha);
}

/** One step of the solver, from the newest of the predictions to a node. */
interface Move {
  base(state: Float32Array): Float32Array;
  predict(base: Float32Array): Float32Array;
  correct(base: Float32Array, denoised: Float32Array): Float32Array;
}

// predictions: newest first, as many as the order of the step
function moveTo(node: Node, predictions: readonly Prediction[], variant: Variant): Move {
  const [last, ...older] = predictions as readonly [Prediction, ...Prediction[]];
  const length = f32(node.lambda - last.lambda);
  const phi1 = f32(Math.expm1(-length));
  const scale = variant === "bh1" ? -length : phi1;
  const ratios = older.map(({ lambda }) => f32(f32(lambda - last.lambda) / length));
  const quotients = older.map(({ denoised }, i) => differenceOver(denoised, last.denoised, ratios[i]!));
  const { matrix, right } = orderConditions([...ratios, 1], -length, scale);
  const step = -f32(node.alpha * scale);
  const along = (base: Float32Array, terms: readonly Term[]): Float32Array => {
    const [first, ...others] = terms;
    return first === undefined ? base : weightedSum([1, base], [step, weightedSum(first, ...others)]);
  };
  const leading = (weights: readonly number[]): Term[] => quotients.map((quotient, i) => [weights[i]!, quotient]);
  return {
    base: (state) =>
      weightedSum([f32(node.deviation / last.deviation), state], [-f32(node.alpha * phi1), last.denoised]),
    predict: (base) => along(base, leading(quotients.length === 1 ? [0.5] : solve(minor(matrix), right.slice(0, -1)))),
    correct(base, denoised) {
      const weights = quotients.length === 0 ? [0.5] : solve(matrix, right);
      const change = weightedSum([1, denoised], [-1, last.denoised]);
      return along(base, [...leading(weights), [weights[quotients.length]!, change]]);
    },
  };
}

// R and b of the paper: R[j][i] = r_i^j, b[j] = g_(j+1)·(j+1)!/B, with g_1 = φ/h − 1 and g_(j+1) = g_j/h − 1/(j+1)!.
function orderConditions(ratios: readonly number[], h: number, scale: number): { matrix: number[][]; right: number[] } {
  const right: number[] = [];
  let g = f32(f32(f32(Math.expm1(h)) / h) - 1);
  let factorial = 1;
  for (let j = 1; j <= ratios.length; j++) {
    right.push(f32(f32(g * factorial) / scale));
    factorial *= j + 1;
    g = f32(f32(g / h) - f32(1 / factorial));
  }
  return { matrix: ratios.map((_, j) => ratios.map((ratio) => f32(ratio ** j))), right };
}

function minor(matrix: readonly (readonly number[])[]): number[][] {
  return matrix.slice(0, -1).map((row) => row.slice(0, -1));
}

function square(value: number): number {
  return f32(value * value);
}
