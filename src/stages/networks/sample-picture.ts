// One sampling run of an open transformer, whatever says its noise and its noise levels.
import type { LatentStatistics } from "../../models/vae-family.js";
import type { SamplingInput } from "../../sampling/driver.js";
import type { Velocity } from "../../sampling/guidance.js";
import { float32, type Tensor } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import { type TransformerRun, withTransformer } from "./open-transformer.js";
import type { EvaluationCounts } from "./reused-blocks.js";
import { type Conditions, normalisedLatent, velocityOf } from "./velocity.js";

/** How a run samples. */
export interface PictureRun {
  /** Shape of the latent, [1, channels, h, w]. */
  readonly shape: readonly number[];
  readonly steps: number;
  /** The noise levels at which the model is evaluated. */
  readonly evaluated: readonly number[];
  readonly sample: (velocity: Velocity, input: Omit<SamplingInput, "latent">) => Promise<Tensor<"float32">>;
}

/** What it samples with. References are latents as the VAE gave them. */
export interface PictureConditions extends Pick<Conditions, "references" | "prompts"> {
  readonly statistics: LatentStatistics;
}

/** A sampled latent, and how often the transformer was evaluated with a step cache; undefined without one. */
export interface SampledPicture {
  readonly latent: Tensor<"float32">;
  readonly evaluations: EvaluationCounts | undefined;
}

/** Samples a latent in the VAE's scale; emits its steps, and what a step cache reused. */
export async function samplePicture(
  run: PictureRun,
  { references, prompts, statistics }: PictureConditions,
  { context, ...transformer }: Omit<TransformerRun, "sigmas" | "conditions"> & { readonly context: StageContext },
): Promise<SampledPicture> {
  const { emit, signal } = context;
  const { shape, evaluated: sigmas } = run;
  const normalised = references.map((each) => normalisedLatent(each, statistics));
  for (const prompt of [prompts.positive, prompts.negative])
    if (prompt) transformer.network.refuse({ shape, references: normalised, prompt });
  const conditions = { shape, references: normalised, prompts, network: transformer.network };
  const opening = { ...transformer, sigmas, conditions };
  return withTransformer(opening, context, async (opened) => {
    const velocity = velocityOf(opened, conditions);
    let before = performance.now();
    const onStep = ({ step, total }: { step: number; total: number }, denoised: Float32Array) => {
      const now = performance.now();
      emit({ kind: "step", step, total, seconds: (now - before) / 1000 });
      before = now;
      context.onDenoised?.(float32(shape, denoised as Float32Array<ArrayBuffer>));
    };
    emit({ kind: "step", step: 0, total: run.steps, seconds: 0 });
    const latent = await run.sample(velocity, { mean: statistics.mean, std: statistics.std, onStep, signal });
    const used = opened.used();
    if (used === undefined) return { latent, evaluations: undefined };
    const { changes, ...evaluations } = used;
    emit({ kind: "note", text: reuseText(evaluations), evaluations });
    if (changes.length > 0)
      emit({ kind: "detail", text: `step cache: the first block changed by ${changes.map(shown).join(" ")}` });
    return { latent, evaluations };
  });
}

function shown(share: number): string {
  return share.toPrecision(2);
}

function reuseText({ whole, reused }: EvaluationCounts): string {
  return `step cache: of ${whole + reused} evaluations of the transformer ${whole} were computed whole, ${reused} by its first block alone`;
}
