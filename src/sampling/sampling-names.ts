// The names of samplers and schedulers, apart from their functions because help loads names alone; and looking one up by the name that a user gave.
import { closest } from "../std/closest.js";
import { QeditError } from "../std/errors.js";

/** Names of the samplers, those of ComfyUI. */
export const SAMPLER_NAMES = [
  "euler",
  "heun",
  "dpm_2",
  "euler_ancestral",
  "dpmpp_2m",
  "dpmpp_2m_sde",
  "res_multistep",
  "lcm",
  "er_sde",
  "uni_pc",
  "uni_pc_bh2",
  "ipndm",
  "exp_heun_2_x0",
  "exp_heun_2_x0_sde",
  "seeds_2",
  "seeds_3",
  "sa_solver",
  "sa_solver_pece",
  "ddim",
] as const;

/** Name of a sampler. */
export type SamplerName = (typeof SAMPLER_NAMES)[number];

/** Names of the schedulers, in ComfyUI's order. */
export const SCHEDULER_NAMES = [
  "simple",
  "sgm_uniform",
  "karras",
  "exponential",
  "ddim_uniform",
  "beta",
  "normal",
  "linear_quadratic",
  "kl_optimal",
] as const;

/** Name of a scheduler. */
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];

/** The entry of that name; throws QEDIT_E_USAGE with all names, and the nearest one as a hint, when there is none. */
export function entryNamed<T>(entries: Readonly<Record<string, T>>, kind: string, name: string): T {
  if (Object.hasOwn(entries, name)) return entries[name]!;
  const names = Object.keys(entries);
  const near = closest(name.toLowerCase(), names);
  const hint = near === undefined ? {} : { hint: `Did you mean "${near}"?` };
  throw new QeditError("QEDIT_E_USAGE", `Unknown ${kind} "${name}": allowed are ${names.join(", ")}`, hint);
}
