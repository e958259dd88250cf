// Formats a recipe as text: settings, sizes, inputs and weights. --json has all values.
import type { Recipe } from "../../artifacts/recipe.js";

/** Characters of a hash that are shown. */
const SHOWN_HASH = 12;

/** Which qedit made a picture, and on what. Tensor files do not say it. */
export function makerLine({ qedit, settings }: Recipe): string {
  if (qedit === undefined) return "made by: qedit before its recipes had a version";
  const { runtime, device } = (settings["decode"] ?? {}) as Values;
  return `made by: qedit ${qedit}${runtime ? `, ${String(runtime)}` : ""}${device ? ` on ${String(device)}` : ""}`;
}

/** Lines `name: value`, in the order of the stages. */
export function recipeLines(recipe: Recipe): string[] {
  const { settings, sizes } = recipe;
  const stage = (name: string) => (settings[name] ?? {}) as Readonly<Record<string, unknown>>;
  const [image, prompt, sample, decode, paste] = [
    "encode_image",
    "encode_prompt",
    "sample",
    "decode",
    "paste_back",
  ].map((name) => stage(name)) as [Values, Values, Values, Values, Values];
  const target = (sizes["target"] as { size?: { width: number; height: number } } | undefined)?.size;
  const lines: readonly (readonly [string, unknown])[] = [
    ["prompt", prompt["prompt"]],
    ["negative prompt", prompt["negative_prompt"] ?? undefined],
    ["seed", sample["seed"]],
    ["sampling", sampling(sample)],
    ["noise of lcm", lcmNoise(sample)],
    ["references by", sample["referenceMethod"]],
    ["step cache", stepCache(sample, sizes)],
    [
      "sigmas",
      Array.isArray(sample["sigmas"])
        ? (sample["sigmas"] as number[]).map((sigma) => Number(sigma.toFixed(4))).join(" ")
        : undefined,
    ],
    [
      "computed in",
      [...new Set([prompt, sample, decode].flatMap((each) => each["compute_type"] ?? []))].join(", ") || undefined,
    ],
    [
      "size",
      target &&
        `${target.width}x${target.height}${decode["keep_size"] ? ", brought back to the size of picture 1" : ""}`,
    ],
    ["sizes of", image["match"] ?? undefined],
    [
      "paste back",
      paste["version"] === undefined
        ? undefined
        : `${paste["mask"] ? "outside a mask" : "outside what changed"}, feather ${String(paste["feather"])} px`,
    ],
    ...Object.entries(recipe.inputs).map(
      ([role, hash]) => [role.replace(/^image\./, "picture "), named(recipe, role, hash)] as const,
    ),
    ...Object.entries(recipe.weights).map(
      ([role, identity]) =>
        [
          role.replace(/_/g, " ").replace(/^lora\.(\d+)/, (_, index: string) => `LoRA ${Number(index) + 1}`),
          weight(recipe, role, identity),
        ] as const,
    ),
  ];
  return lines.flatMap(([name, value]) => (value === undefined || value === "" ? [] : [`${name}: ${String(value)}`]));
}

type Values = Readonly<Record<string, unknown>>;

function sampling(sample: Values): string | undefined {
  if (sample["steps"] === undefined) return undefined;
  const { steps, cfg, sampler, scheduler, shift, denoise, cfgNorm, sigmas } = sample;
  if (scheduler === undefined)
    return `${String(steps)} steps, cfg ${String(cfg)}, ${String(sampler)}, noise levels ${String(sigmas)}, cfg-norm ${String(cfgNorm)}`;
  return `${String(steps)} steps, cfg ${String(cfg)}, ${String(sampler)}, ${String(scheduler)}, shift ${String(shift)}, denoise ${String(denoise)}, cfg-norm ${String(cfgNorm)}`;
}

function lcmNoise({ lcmNoise: scale, lcmNoiseEnd: end, lcmNoiseClip: clip }: Values): string | undefined {
  const parts = Object.entries({ factor: scale, "at the end": end, "clipped at": clip });
  const given = parts.filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${String(value)}`);
  return given.length === 0 ? undefined : given.join(", ");
}

function stepCache({ stepCache: threshold }: Values, { evaluations }: Values): string | undefined {
  if (threshold === undefined) return undefined;
  const { whole, reused } = (evaluations ?? {}) as Values;
  const counts = whole === undefined ? "" : `, ${String(whole)} evaluations whole, ${String(reused)} reused`;
  return `share ${String(threshold)}${counts}`;
}

function named({ names }: Recipe, role: string, hash: string): string {
  return `${names[role] ?? "unnamed"} (sha256 ${hash.slice(0, SHOWN_HASH)}…)`;
}

function weight({ names, settings }: Recipe, role: string, identity: string): string {
  const strengths = (settings["sample"] as { lora_strengths?: readonly number[] } | undefined)?.lora_strengths;
  const strength = role.startsWith("lora.") ? strengths?.[Number(role.slice(5))] : undefined;
  return `${names[role] ?? "unnamed"} (identity ${identity.slice(0, SHOWN_HASH)}…)${strength === undefined ? "" : `, strength ${strength}`}`;
}
