// Finds settings that have no effect together with the others, and combinations that are known to spoil the picture.
import { usesNegative } from "../../sampling/guidance.js";
import { parseLora } from "../../stages/networks/loras.js";
import { param } from "../../std/errors.js";
import { jsonName } from "../parameters/parameter.js";
import { lightningSteps, resolveSampling, type SamplingChoices } from "./sampling-defaults.js";

/** A problem with a setting, and what to do about it. */
export interface Complaint {
  readonly setting: string;
  readonly message: string;
  readonly hint: string;
}

type Settings = Partial<SamplingChoices> & {
  readonly negativePrompt?: string | undefined;
  readonly strictLora?: boolean;
  readonly stepCache?: number | undefined;
};

/** A Lightning LoRA is distilled without guidance: a larger cfg doubles the time and oversaturates colours. */
const MAX_LIGHTNING_CFG = 1;
/** More than this multiple of the steps that a Lightning LoRA was distilled for spoils the picture. */
const MAX_LIGHTNING_STEP_RATIO = 2;

/** Most steps of a run in which one is too far from the last to reuse its blocks: those of the shortest Lightning LoRAs. */
const FEW_STEPS = 4;

/** What noise levels are computed from where they are not given. */
export const INSTEAD_OF_SIGMAS = ["steps", "scheduler", "shift", "denoise"] as const;

/** Problems with settings; `given` are the names of those that were set explicitly. A stage's settings lack the values it does not use. */
export function uselessSettings(settings: object, given: ReadonlySet<string>): readonly Complaint[] {
  const values = settings as Settings;
  const complaints: Complaint[] = [];
  const lora = values.lora ?? [];
  if (given.has("strictLora") && lora.length === 0 && values.strictLora) {
    complaints.push({
      setting: "strictLora",
      message: "Cannot be strict about LoRAs: there is none",
      hint: `Add ${param("lora", "FILE")}, or leave out ${param("strict_lora")}`,
    });
  }
  // A stage without sampling has no cfg.
  if (values.sampler === undefined) return complaints;
  const { cfg, steps } = resolveSampling({ ...(values as SamplingChoices), lora });
  return [
    ...complaints,
    ...withoutGuidance(values, given, cfg),
    ...withoutLcm(values, given),
    ...besideSigmas(values, given),
    ...withFewSteps(values, steps),
    ...lightningComplaints(lora, { cfg, steps }),
  ];
}

function withoutLcm({ sampler }: Settings, given: ReadonlySet<string>): readonly Complaint[] {
  if (sampler === "lcm") return [];
  const named = ["lcmNoise", "lcmNoiseEnd", "lcmNoiseClip"].filter((setting) => given.has(setting));
  return named.map((setting) => ({
    setting,
    message: `Cannot use ${param(jsonName(setting))} with the sampler ${sampler}: it has no effect`,
    hint: `Use ${param("sampler", "lcm")}, leave out ${param(jsonName(setting))}`,
  }));
}

function besideSigmas({ sigmas }: Settings, given: ReadonlySet<string>): readonly Complaint[] {
  if (sigmas === undefined || !given.has("sigmas")) return [];
  const named = INSTEAD_OF_SIGMAS.filter((setting) => given.has(setting));
  return named.map((setting) => ({
    setting,
    message: `Cannot use ${param(jsonName(setting))} beside ${param("sigmas")}: it has no effect`,
    hint: `Leave one of them out`,
  }));
}

function withFewSteps({ stepCache }: Settings, steps: number): readonly Complaint[] {
  if (stepCache === undefined || steps > FEW_STEPS) return [];
  return [
    {
      setting: "stepCache",
      message: `Cannot use ${param("step_cache")} with ${steps} ${steps === 1 ? "step" : "steps"}: each changes too much of the picture`,
      hint: `Use more, such as ${param("steps", 20)}, leave out ${param("step_cache")}`,
    },
  ];
}

function withoutGuidance(values: Settings, given: ReadonlySet<string>, cfg: number): readonly Complaint[] {
  if (usesNegative(cfg)) return [];
  const complaints: Complaint[] = [];
  const more = `Add ${param("cfg", 2.5)}`;
  if (given.has("negativePrompt") && values.negativePrompt !== undefined) {
    const message = `Cannot use a negative prompt at cfg ${cfg}: it has no effect`;
    complaints.push({ setting: "negativePrompt", message, hint: `${more}, leave out ${param("negative_prompt")}` });
  }
  if (given.has("cfgNorm")) {
    const message = `Cannot use ${param("cfg_norm")} at cfg ${cfg}: it has no effect`;
    complaints.push({ setting: "cfgNorm", message, hint: `${more}, leave out ${param("cfg_norm")}` });
  }
  return complaints;
}

function lightningComplaints(
  lora: readonly string[],
  { cfg, steps }: { cfg: number; steps: number },
): readonly Complaint[] {
  for (const { path, strength } of lora.map(parseLora)) {
    const made = lightningSteps(path);
    if (made === undefined || strength === 0) continue;
    const complaints: Complaint[] = [];
    if (cfg > MAX_LIGHTNING_CFG)
      complaints.push({
        setting: "cfg",
        message: `Cannot use cfg ${cfg} with a Lightning LoRA: it was distilled without guidance`,
        hint: `Use ${param("cfg", 1)}`,
      });
    if (steps > made * MAX_LIGHTNING_STEP_RATIO)
      complaints.push({
        setting: "steps",
        message: `Cannot use ${steps} steps with a Lightning LoRA made for ${made}`,
        hint: `Use ${param("steps", made)}`,
      });
    return complaints;
  }
  return [];
}
