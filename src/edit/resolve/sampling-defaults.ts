// The numbers of a sampling run: what the user set, else what suits the LoRAs. A Lightning LoRA is distilled for few steps
// without guidance; without one, ComfyUI's template for Qwen-Image-Edit-2509 (20 steps, cfg 2.5).
import { basename } from "node:path";
import { parseLora } from "../../stages/networks/loras.js";
import type { SamplingNumbers } from "../../stages/sample.js";

/** What decides them. */
export interface SamplingChoices extends Omit<SamplingNumbers, "steps" | "cfg"> {
  readonly steps: number | undefined;
  readonly cfg: number | undefined;
  /** As they were written: FILE or FILE:STRENGTH. */
  readonly lora: readonly string[];
}

const TEMPLATE = { steps: 20, cfg: 2.5 };
const LIGHTNING = { steps: 4, cfg: 1 };

/** Fills in steps and cfg. */
export function resolveSampling(choices: SamplingChoices): SamplingNumbers {
  const { steps, cfg, lora, sampler, scheduler, denoise, shift, cfgNorm, seed } = choices;
  const suited = lora.map((each) => lightningSteps(parseLora(each).path)).find((count) => count !== undefined);
  const defaults = suited === undefined ? TEMPLATE : { ...LIGHTNING, steps: suited };
  return {
    sampler,
    scheduler,
    steps: steps ?? defaults.steps,
    denoise,
    shift,
    cfg: cfg ?? defaults.cfg,
    cfgNorm,
    seed,
  };
}

/** The steps that a Lightning LoRA was made for, by its published name (…Lightning-8steps…); undefined for other files. */
export function lightningSteps(path: string): number | undefined {
  const name = basename(path);
  if (!/lightning/i.test(name)) return undefined;
  return Number(/(\d+)[-_ ]?steps?/i.exec(name)?.[1] ?? LIGHTNING.steps);
}
