// Default steps and cfg. With a Lightning LoRA, which is distilled for few steps without guidance: its steps, cfg 1.
// Without one: as in ComfyUI's template for Qwen-Image-Edit-2509 (20 steps, cfg 2.5).
import { basename } from "node:path";
import { parseLora } from "../../stages/networks/loras.js";
import type { SamplingNumbers } from "../../stages/sample.js";

/** Sampling settings before steps and cfg are filled in. */
export interface SamplingChoices extends Omit<SamplingNumbers, "steps" | "cfg"> {
  readonly steps: number | undefined;
  readonly cfg: number | undefined;
  /** LoRAs as FILE or FILE:STRENGTH. */
  readonly lora: readonly string[];
}

const TEMPLATE = { steps: 20, cfg: 2.5 };
const LIGHTNING = { steps: 4, cfg: 1 };

/** Fills in steps and cfg. */
export function resolveSampling(choices: SamplingChoices): SamplingNumbers {
  const { steps, cfg, lora, ...numbers } = choices;
  const lightning = lora.map((each) => lightningSteps(parseLora(each).path)).find((count) => count !== undefined);
  const defaults = lightning === undefined ? TEMPLATE : { ...LIGHTNING, steps: lightning };
  const counted = numbers.sigmas === undefined ? undefined : numbers.sigmas.length - 1;
  return { ...numbers, steps: counted ?? steps ?? defaults.steps, cfg: cfg ?? defaults.cfg };
}

/** The steps that a Lightning LoRA was distilled for, from its published file name (…Lightning-8steps…); undefined for other files. */
export function lightningSteps(path: string): number | undefined {
  const name = basename(path);
  if (!/lightning/i.test(name)) return undefined;
  return Number(/(\d+)[-_ ]?steps?/i.exec(name)?.[1] ?? LIGHTNING.steps);
}
