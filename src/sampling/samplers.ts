// The samplers by the names that ComfyUI gives them. A new one is a function in samplers/, a name in sampling-names.ts and a line here.

import type { Sampler } from "./sampler.js";
import { dpmpp2m, dpmpp2mSde } from "./samplers/dpmpp-2m.js";
import { erSde } from "./samplers/er-sde.js";
import { euler, eulerAncestral } from "./samplers/euler.js";
import { expHeun2X0, expHeun2X0Sde, seeds2, seeds3 } from "./samplers/exponential-runge-kutta.js";
import { dpm2, heun } from "./samplers/heun.js";
import { ipndm } from "./samplers/ipndm.js";
import { lcm } from "./samplers/lcm.js";
import { resMultistep } from "./samplers/res-multistep.js";
import { saSolver, saSolverPece } from "./samplers/sa-solver.js";
import { uniPc, uniPcBh2 } from "./samplers/uni-pc.js";
import { entryNamed, type SamplerName } from "./sampling-names.js";

/** A sampler and what it asks of the schedule. */
export interface SamplerEntry {
  readonly sample: Sampler;
  /** Whether the schedule has one step more and leaves out its next-to-last level. */
  readonly spareStep: boolean;
}

const SAMPLERS: Readonly<Record<SamplerName, SamplerEntry>> = {
  euler: { sample: euler, spareStep: false },
  heun: { sample: heun, spareStep: false },
  dpm_2: { sample: dpm2, spareStep: true },
  euler_ancestral: { sample: eulerAncestral, spareStep: false },
  dpmpp_2m: { sample: dpmpp2m, spareStep: false },
  dpmpp_2m_sde: { sample: dpmpp2mSde, spareStep: false },
  res_multistep: { sample: resMultistep, spareStep: false },
  lcm: { sample: lcm, spareStep: false },
  er_sde: { sample: erSde, spareStep: false },
  uni_pc: { sample: uniPc, spareStep: true },
  uni_pc_bh2: { sample: uniPcBh2, spareStep: true },
  ipndm: { sample: ipndm, spareStep: false },
  exp_heun_2_x0: { sample: expHeun2X0, spareStep: false },
  exp_heun_2_x0_sde: { sample: expHeun2X0Sde, spareStep: false },
  seeds_2: { sample: seeds2, spareStep: false },
  seeds_3: { sample: seeds3, spareStep: false },
  sa_solver: { sample: saSolver, spareStep: false },
  sa_solver_pece: { sample: saSolverPece, spareStep: false },
  // differs from euler only under an inpainting mask
  ddim: { sample: euler, spareStep: false },
};

/** The sampler of that name; throws QEDIT_E_USAGE, listing the names, when there is none. */
export function samplerNamed(name: string): SamplerEntry {
  return entryNamed(SAMPLERS, "sampler", name);
}
