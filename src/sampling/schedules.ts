// Which noise levels a run visits: ComfyUI's nine schedulers (comfy/samplers.py, comfy/k_diffusion/sampling.py of v0.3.64).
// A scheduler is a function, a name in sampling-names.ts and a line in SCHEDULES.

import { QeditError } from "../std/errors.js";
import { roundHalfEven } from "../std/rounding.js";
import { symmetricBetaQuantile } from "./inverse-beta.js";
import { entryNamed, type SchedulerName } from "./sampling-names.js";
import type { SigmaTable } from "./sigma-table.js";

type Schedule = (table: SigmaTable, steps: number) => number[];

const f32 = Math.fround;

/** A level below this counts as 0, so that no further 0 is appended. */
const ZERO_TOLERANCE = 1e-5;

const SCHEDULES: Readonly<Record<SchedulerName, Schedule>> = {
  simple,
  sgm_uniform: sgmUniform,
  karras,
  exponential,
  ddim_uniform: ddimUniform,
  beta,
  normal,
  linear_quadratic: linearQuadratic,
  kl_optimal: klOptimal,
};

/**
 * The levels of a full run, falling, float32, nearly always `steps` levels and a final 0
 * (ddim_uniform may give more or fewer, beta fewer, as in ComfyUI).
 * Throws QEDIT_E_USAGE for an unknown name, and for a number of steps that the scheduler cannot divide.
 */
export function scheduleSigmas(name: string, table: SigmaTable, steps: number): Float32Array {
  const schedule = entryNamed(SCHEDULES, "scheduler", name);
  if (!Number.isInteger(steps) || steps < 1) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot sample in ${steps} steps: the number of steps is a whole number from 1`,
    );
  }
  return Float32Array.from(schedule(table, steps));
}

/** What KSampler asks of a schedule. */
export interface RunLength {
  readonly scheduler: string;
  readonly steps: number;
  /** Share of the schedule that is run, its end: 1 starts from pure noise, 0 gives no levels. */
  readonly denoise: number;
  /** Whether one step more is scheduled and the next-to-last level left out, as some samplers need. */
  readonly spareStep: boolean;
}

/** The levels of a KSampler run: for denoise < 1, the last steps + 1 levels of a schedule of int(steps / denoise) steps. */
export function runSigmas(table: SigmaTable, { scheduler, steps, denoise, spareStep }: RunLength): Float32Array {
  if (!(denoise >= 0 && denoise <= 1)) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot sample with denoise ${denoise}: denoise is a number from 0 to 1`);
  }
  if (denoise === 0) return new Float32Array(0);
  const whole = denoise > 0.9999;
  const scheduled = whole ? steps : Math.trunc(steps / denoise);
  const sigmas = scheduleSigmas(scheduler, table, scheduled + (spareStep ? 1 : 0));
  const levels = spareStep ? sigmas.filter((_, i) => i !== sigmas.length - 2) : sigmas;
  return whole ? levels : levels.slice(-(steps + 1));
}

function simple({ sigmas }: SigmaTable, steps: number): number[] {
  const stride = sigmas.length / steps;
  return [...Array.from({ length: steps }, (_, x) => sigmas[sigmas.length - 1 - Math.trunc(x * stride)]!), 0];
}

// The ends are levels, but stand where times belong: they were shifted already. ComfyUI does so, since for it a level is its own timestep.
function sgmUniform(table: SigmaTable, steps: number): number[] {
  const times = linspace(highest(table), lowest(table), steps + 1).slice(0, -1);
  return [...times.map((time) => table.shift(time)), 0];
}

function normal(table: SigmaTable, steps: number): number[] {
  const endsAtZero = table.shift(lowest(table)) <= ZERO_TOLERANCE;
  const times = linspace(highest(table), lowest(table), endsAtZero ? steps + 1 : steps);
  const levels = times.map((time) => table.shift(time));
  return endsAtZero ? levels : [...levels, 0];
}

// Karras et al. 2022, equation 5, with their ρ = 7.
function karras(table: SigmaTable, steps: number): number[] {
  const rho = 7;
  const top = highest(table) ** (1 / rho);
  const bottom = lowest(table) ** (1 / rho);
  const span = f32(bottom - top);
  return [...linspace(0, 1, steps).map((ramp) => f32(top + f32(ramp * span)) ** rho), 0];
}

function exponential(table: SigmaTable, steps: number): number[] {
  return [...linspace(Math.log(highest(table)), Math.log(lowest(table)), steps).map(Math.exp), 0];
}

function ddimUniform({ sigmas }: SigmaTable, steps: number): number[] {
  const endsAtZero = sigmas[1]! <= ZERO_TOLERANCE;
  const stride = Math.max(Math.floor(sigmas.length / (endsAtZero ? steps + 1 : steps)), 1);
  const rising = endsAtZero ? [] : [0];
  for (let x = 1; x < sigmas.length; x += stride) rising.push(sigmas[x]!);
  return rising.reverse();
}

// Lee et al. 2024 (arXiv 2407.12173), with their α = β = 0.6.
function beta({ sigmas }: SigmaTable, steps: number): number[] {
  const share = 1 / steps;
  const quantiles = Array.from({ length: steps }, (_, x) => symmetricBetaQuantile(1 - x * share, 0.6));
  const indexes = quantiles.map((quantile) => roundHalfEven(quantile * (sigmas.length - 1)));
  return [...indexes.filter((index, x) => index !== indexes[x - 1]).map((index) => sigmas[index]!), 0];
}

// Genmo's Mochi 1: even steps through the first 2.5 % of the noise, then a parabola to the end.
function linearQuadratic(table: SigmaTable, steps: number): number[] {
  if (steps === 1) return [highest(table), 0];
  const threshold = 0.025;
  const even = Math.floor(steps / 2);
  const curved = steps - even;
  const difference = even - threshold * steps;
  const square = difference / (even * curved ** 2);
  const slope = threshold / even - (2 * difference) / curved ** 2;
  const constant = square * even ** 2;
  const removed = (i: number): number => (i < even ? (i * threshold) / even : square * i ** 2 + slope * i + constant);
  return [...Array.from({ length: steps }, (_, i) => removed(i)), 1].map((share) => f32(1 - share) * highest(table));
}

// Sabour et al. 2024 (arXiv 2404.14507), theorem 3.1.
function klOptimal(table: SigmaTable, steps: number): number[] {
  if (steps < 2) {
    throw new QeditError("QEDIT_E_USAGE", "Cannot schedule 1 step with kl_optimal: it needs at least 2", {
      hint: "Use the scheduler simple",
    });
  }
  const bottom = f32(Math.atan(lowest(table)));
  const top = f32(Math.atan(highest(table)));
  const ramps = Array.from({ length: steps }, (_, i) => f32(i / (steps - 1)));
  return [...ramps.map((ramp) => Math.tan(f32(f32(ramp * bottom) + f32(f32(1 - ramp) * top)))), 0];
}

function lowest({ sigmas }: SigmaTable): number {
  return sigmas[0]!;
}

function highest({ sigmas }: SigmaTable): number {
  return sigmas[sigmas.length - 1]!;
}

// torch.linspace in float32: counted from the nearer end, with one rounding (its kernel multiplies and adds in one instruction).
function linspace(start: number, end: number, count: number): number[] {
  const [from, to] = [f32(start), f32(end)];
  const step = count > 1 ? f32(f32(to - from) / (count - 1)) : 0;
  const nearStart = (i: number): boolean => count === 1 || i < Math.floor(count / 2);
  return Array.from({ length: count }, (_, i) => f32(nearStart(i) ? from + step * i : to - step * (count - 1 - i)));
}
