// What an exported model does of an edit: of each parameter that its stage has, whether it works, or why it is refused. Whatever comes from the graphs
// alone is fixed; what this machine makes inputs of, or does afterwards, is free.
import { samplingSigmas } from "../../sampling/driver.js";
import { usesNegative } from "../../sampling/guidance.js";
import { parseLora } from "../../stages/networks/loras.js";
import { type SamplingNumbers, samplingOf } from "../../stages/sample.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { jsonName } from "../parameters/parameter.js";
import type { EDIT_PARAMETERS, STAGE_PARAMETERS } from "../parameters/table.js";
import type { ExportedFacts } from "./exported-facts.js";
import type { RemoteSettings } from "./stage-tensors.js";

/** What a stage is asked, for the decision. */
export interface AskedThere {
  readonly settings: RemoteSettings;
  readonly facts: ExportedFacts;
  /** Number of pictures. */
  readonly count: number;
  /** Whether one model makes the whole edit. */
  readonly isWhole: boolean;
}

interface Refusal {
  /** What the model does instead, as the end of a sentence. */
  readonly found: string;
  readonly hint: string;
}

/**
 * "works": with the result of a run here. "file": names a file of this machine, which is refused for every stage elsewhere. A function: gives why it
 * cannot be done, or undefined.
 */
type Decision = "works" | "file" | ((asked: AskedThere) => Refusal | undefined);

/** Compute types: values of parameters to names in graphs. */
const TYPES: Readonly<Record<string, string>> = { float32: "f32", float16: "f16", bfloat16: "bf16" };
const METHODS: Readonly<Record<string, string>> = { uxo: "offset" };

/** The decision on each parameter of each stage. A parameter that the table gains does not compile until it stands here. */
export const EXPORTED_PARAMETERS = {
  "encode-image": {
    vae: "file",
    vaeDtype: typeOf("vaeDtype", "vae"),
    tile: withoutTiles,
    size: "works",
    megapixels: "works",
    // Of match alone.
    resolutionSteps: "works",
    match: ({ settings: { match: tool } }) =>
      tool === undefined
        ? undefined
        : { found: "takes pictures in bytes, and those of this tool's nodes are floats", hint: leaveOut("match") },
  },
  "encode-prompt": {
    textEncoder: "file",
    prompt: "works",
    allowEmptyPrompt: "works",
    negativePrompt: "works",
    // Of pictures in sizes of this machine.
    ...{ size: "works", megapixels: "works", resolutionSteps: "works" },
    match: "works",
    textDtype: typeOf("textDtype", "text_encoder"),
  },
  sample: {
    transformer: "file",
    lora: otherLoras,
    // The LoRAs were matched when they were exported.
    strictLora: "works",
    seed: "works",
    steps: "works",
    cfg: ({ settings, facts }) =>
      usesNegative(settings["cfg"] as number) && !facts.guidance
        ? {
            found: "has no guidance",
            hint: `Use ${param("cfg", 1)}, or export it with guidance: qedit export triton ${param("cfg")}`,
          }
        : undefined,
    sampler: ({ settings: { sampler }, facts }) =>
      sampler === facts.sampling.sampler
        ? undefined
        : {
            found: `samples with ${facts.sampling.sampler} alone`,
            hint: `Use ${param("sampler", facts.sampling.sampler)}`,
          },
    scheduler: (asked) => (asked.settings["sigmas"] === undefined ? unfitLevels(asked) : undefined),
    shift: "works",
    sigmas: (asked) => (asked.settings["sigmas"] === undefined ? undefined : unfitLevels(asked)),
    denoise: ({ settings: { denoise }, isWhole }) =>
      isWhole && denoise !== 1
        ? { found: "begins with noise alone", hint: `Leave out ${param("denoise")}, or name servers stage by stage` }
        : undefined,
    cfgNorm: ({ settings: { cfgNorm }, facts: { sampling } }) =>
      cfgNorm === sampling.cfg_norm
        ? undefined
        : { found: `was exported with ${sampling.cfg_norm}`, hint: `Use ${param("cfg_norm", sampling.cfg_norm)}` },
    lcmNoise: ofLcm("lcmNoise"),
    lcmNoiseEnd: ofLcm("lcmNoiseEnd"),
    lcmNoiseClip: ofLcm("lcmNoiseClip"),
    referenceMethod: otherMethod,
    dtype: typeOf("dtype", "transformer"),
    stepCache: ({ settings: { stepCache } }) =>
      stepCache === undefined
        ? undefined
        : { found: "computes every step whole, in a loop of its graph", hint: leaveOut("step_cache") },
  },
  decode: {
    vae: "file",
    vaeDtype: typeOf("vaeDtype", "vae"),
    tile: withoutTiles,
    keepSize: "works",
    match: ({ settings: { match: tool, keepSize } }) =>
      tool === undefined || keepSize === true
        ? undefined
        : { found: "rounds to bytes, and this tool truncates", hint: leaveOut("match") },
    noMetadata: "works",
  },
} as const satisfies {
  readonly [Stage in StageName]: Readonly<Record<keyof (typeof STAGE_PARAMETERS)[Stage], Decision>>;
};

type StageParameter = { [Stage in StageName]: keyof (typeof STAGE_PARAMETERS)[Stage] }[StageName];

/** Parameters of no stage: what comes before the first one and after the last one is done here. */
export const DONE_HERE = {
  ...{ keepExif: "works", pasteBack: "works", mask: "works" },
  ...{ cropMask: "works", maskMargin: "works", feather: "works" },
} as const satisfies Readonly<Record<Exclude<keyof typeof EDIT_PARAMETERS, StageParameter>, "works">>;

/** Stages that see all pictures at once, for as many as an export was planned. */
const OF_ALL_PICTURES: readonly StageName[] = ["encode-prompt", "sample"];

/** Throws QEDIT_E_USAGE for what the exported models of some stages cannot do; `where` names the server. */
export function refuseUnable(stages: readonly StageName[], asked: AskedThere, where: string): void {
  const { count, facts, settings } = asked;
  if (count > facts.images && stages.some((stage) => OF_ALL_PICTURES.includes(stage)))
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot edit ${count} pictures on the server at ${where}: its model was exported for up to ${facts.images}`,
      { hint: `Export it for more: qedit export triton ${param("images", count)}, or give fewer pictures` },
    );
  for (const stage of STAGES.filter((each) => stages.includes(each))) {
    const decisions: Readonly<Record<string, Decision>> = EXPORTED_PARAMETERS[stage];
    for (const [key, decision] of Object.entries(decisions)) {
      const refusal = typeof decision === "function" ? decision(asked) : undefined;
      if (refusal === undefined) continue;
      const parameter = jsonName(key);
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot use ${param(parameter, textOf(settings[key]))} on the server at ${where}: its exported model ${refusal.found}`,
        { hint: `${refusal.hint}, or run ${stage} on a server of qedit`, parameter },
      );
    }
  }
}

function textOf(value: unknown): string {
  // 0.7 as float32 is 0.699999988079071.
  if (typeof value === "number") return String(Number(value.toPrecision(7)));
  return Array.isArray(value) ? value.map(textOf).join(",") : String(value ?? "");
}

function leaveOut(parameter: string): string {
  return `Leave out ${param(parameter)}`;
}

// "auto" is what was exported.
function typeOf(key: string, network: keyof ExportedFacts["compute"]): Decision {
  return ({ settings, facts }) => {
    const wanted = settings[key];
    const found = facts.compute[network];
    if (wanted === undefined || wanted === "auto" || TYPES[String(wanted)] === found) return undefined;
    return { found: `computes in ${found}`, hint: leaveOut(jsonName(key)) };
  };
}

function withoutTiles({ settings: { tile } }: AskedThere): Refusal | undefined {
  return tile === undefined ? undefined : { found: "works on the whole picture", hint: leaveOut("tile") };
}

function ofLcm(key: string): Decision {
  return ({ settings, facts }) =>
    settings[key] === undefined
      ? undefined
      : { found: `samples with ${facts.sampling.sampler} alone`, hint: leaveOut(jsonName(key)) };
}

function otherMethod({ settings: { referenceMethod: wanted }, facts: { sampling } }: AskedThere): Refusal | undefined {
  const { reference_method: found, own_reference_method: own } = sampling;
  if (found === undefined)
    return wanted === undefined
      ? undefined
      : { found: "places references in its one way", hint: leaveOut("reference_method") };
  if ((wanted === undefined ? own : (METHODS[String(wanted)] ?? wanted)) === found) return undefined;
  return { found: `was exported with ${found}`, hint: `Use ${param("reference_method", found)}` };
}

// Strengths and order are those of the graphs; which files they are is held against their identities besides.
function otherLoras({ settings: { lora = [] }, facts: { weights } }: AskedThere): Refusal | undefined {
  const baked = Object.keys(weights)
    .filter((role) => role.startsWith("lora."))
    .sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)))
    .map((role) => weights[role]!);
  const asked = lora.map((written) => parseLora(written));
  const isSame =
    asked.length === baked.length && asked.every(({ strength }, index) => strength === baked[index]!.strength);
  if (isSame) return undefined;
  const text = baked.map(({ file, strength }) => `${file}:${strength}`).join(", ");
  return {
    found: baked.length === 0 ? "was exported without a LoRA" : `was exported with ${text}`,
    hint:
      baked.length === 0
        ? `Export it with these LoRAs: qedit export triton ${param("lora")}`
        : `Give the ones of the export: ${baked.map(({ file, strength }) => param("lora", `${file}:${strength}`)).join(" ")}`,
  };
}

// The graph's loop takes levels that fall; a whole edit begins with noise alone.
function unfitLevels({ settings, isWhole }: AskedThere): Refusal | undefined {
  const sigmas = samplingSigmas(samplingOf(settings as unknown as SamplingNumbers));
  const falls = sigmas.every((sigma, index) => index === 0 || sigma < sigmas[index - 1]!);
  const isRange = sigmas.length === 0 || (sigmas[0]! <= 1 && sigmas.at(-1)! >= 0);
  const hint =
    settings["sigmas"] === undefined
      ? `Use ${param("scheduler", "simple")}`
      : `Begin ${param("sigmas")} with 1 and let them fall, or name servers stage by stage`;
  if (!falls || !isRange) return { found: "takes noise levels that fall from 1 to 0, and these do not", hint };
  // Of a run that begins later, denoise says so.
  return isWhole && settings["denoise"] === 1 && sigmas[0] !== 1
    ? { found: "begins with noise alone, at the noise level 1", hint }
    : undefined;
}
