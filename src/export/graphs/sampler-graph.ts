// The exported models that sample: references packed for the sampler, and Euler's method as a loop around one evaluation of the transformer.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { type Adapter, Weights } from "../../checkpoint/weights.js";
import type { Optimization } from "../../engine/sessions/engine.js";
import { loop } from "../../graph/control-flow.js";
import { counted, gather, part, refuseUnless, sumOver, unsqueeze } from "../../graph/indexing.js";
import type { DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import {
  gridOfLatent,
  latentOfTokens,
  latentTokens,
  referencePositions,
  referenceTokens,
  ropeOfPositions,
  targetPositions,
  textPositions,
} from "../../models/qwen-image/latent-tokens.js";
import { computedModulation, type ModulationSource, steppedModulation } from "../../models/qwen-image/modulation.js";
import { transformerVelocity } from "../../models/qwen-image/transformer.js";
import type { TransformerConfig } from "../../models/qwen-image/transformer-config.js";
import { CFG_NORM_EPSILON } from "../../sampling/guidance.js";
import type { ExportedModel } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";
import { describedGraph } from "./described-graph.js";
import { refuseNonFinite, violated } from "./violations.js";

/** A transformer and how it is exported. */
export interface ExportedTransformer {
  readonly checkpoint: Checkpoint;
  readonly config: TransformerConfig;
  /** LoRAs with fixed strengths. */
  readonly adapters: readonly Adapter[];
  readonly compute: DType;
  readonly optimization: Optimization;
  /** Strength of CFGNorm; undefined: none. */
  readonly cfgNorm: number | undefined;
}

/** `join_1`, `join_2`, … */
export function joinGraph(tensors: ModelTensors, config: TransformerConfig): ExportedModel {
  const channels = channelsOf(config);
  const names = tensors.inputs.map(({ name }) => name);
  return describedGraph(tensors, {
    shapes: Object.fromEntries(names.map((name, index) => [name, [1, channels, `h_${index}`, `w_${index}`]])),
    optimization: "full",
    build(inputs) {
      const latents = names.map((name) => inputs[name]!);
      const tokens = latents.map((latent, index) => {
        const grid = gridOfLatent(latent, { rows: `rows_${index}`, columns: `columns_${index}` }, config);
        return latentTokens(latent, grid, config);
      });
      return {
        reference_tokens: concat(tokens, 1),
        reference_sizes: concat(
          latents.map((latent) => unsqueeze(latent.shapeValue(2, 4), 0)),
          0,
        ),
      };
    },
  });
}

/** `sample`, or `sample_cfg` where its tensors have a negative prompt. */
export function samplerGraph(tensors: ModelTensors, transformer: ExportedTransformer): ExportedModel {
  const { checkpoint, config, adapters, optimization } = transformer;
  const channels = channelsOf(config);
  return describedGraph(tensors, {
    shapes: {
      noise: [1, channels, "h", "w"],
      reference_tokens: [1, "reference", config.patchWidth],
      reference_sizes: ["references", 2],
      prompt_embeds: [1, "text", config.textWidth],
      sigmas: ["levels"],
      negative_prompt_embeds: [1, "negative text", config.textWidth],
    },
    optimization,
    build(inputs, graph) {
      const w = Weights.of(graph, checkpoint, adapters);
      return { latents: sampled(inputs, w, transformer) };
    },
  });
}

type Inputs = Readonly<Record<string, Value>>;

function sampled(inputs: Inputs, w: Weights, transformer: ExportedTransformer): Value {
  const noise = inputs["noise"]!;
  const sigmas = checkedSigmas(inputs["sigmas"]!);
  const steps = sigmas.shapeValue().sub(1);
  const evaluation = velocityOf(inputs, w, transformer);
  const modulationAt = modulationBySteps(sigmas, w, transformer);
  const [x] = loop(noise.graph, { trips: steps, carried: [{ initial: noise }] }, ([x], step) => {
    const [sigma, next] = [gather(sigmas, step), gather(sigmas, step.add(1))];
    const denoised = denoisedBy(
      evaluation,
      { x: x!, sigma, modulation: modulationAt(step, sigma) },
      inputs,
      transformer,
    );
    return [x!.add(x!.sub(denoised).div(sigma).mul(next.sub(sigma)))];
  });
  const remaining = gather(sigmas, steps).mul(-1).add(1);
  return refuseNonFinite(x!.div(remaining), "the latents");
}

// As withTransformer chooses: linears that are widened when the session opens cost next to nothing in a step; others run once, before the loop.
function modulationBySteps(
  sigmas: Value,
  w: Weights,
  { config, compute, optimization }: ExportedTransformer,
): (step: Value, sigma: Value) => ModulationSource {
  if (optimization === "full") return (_, sigma) => computedModulation(sigma, w, { config, compute });
  const start = sigmas.graph.constant("i64", [1], [0]);
  const evaluated = part(sigmas, { axis: 0, start, end: sigmas.shapeValue().sub(1), length: "steps" });
  const modulation = steppedModulation(evaluated, w, { config, compute });
  return (step) => modulation.at(step);
}

// Fewer than two levels are no step: the noise would come back as the result. Levels that rise would add noise that is not there.
function checkedSigmas(given: Value): Value {
  const { graph } = given;
  const count = given.shapeValue();
  const sigmas = refuseUnless(given, violated(count.atLeast(2)), "sigmas must be two noise levels or more");
  const [first, second] = [graph.constant("i64", [1], [0]), graph.constant("i64", [1], [1])];
  const length = "steps";
  const before = part(sigmas, { axis: 0, start: first, end: count.sub(1), length });
  const after = part(sigmas, { axis: 0, start: second, end: count, length });
  const rising = counted(after.atLeast(before)).sum().reshape([1]);
  const outside = violated(gather(sigmas, first).mul(-1).atLeast(-1)).add(
    violated(gather(sigmas, count.sub(1)).atLeast(0)),
  );
  return refuseUnless(sigmas, rising.add(outside), "sigmas must fall, from 1 at most to 0 at least");
}

/** One evaluation of the transformer under one of the prompts. */
type Velocity = (x: Value, modulation: ModulationSource, which: "prompt_embeds" | "negative_prompt_embeds") => Value;

function velocityOf(inputs: Inputs, w: Weights, { config, compute }: ExportedTransformer): Velocity {
  const noise = inputs["noise"]!;
  const grid = gridOfLatent(noise, { rows: "rows", columns: "columns" }, config);
  const sizes = inputs["reference_sizes"]!;
  const tokens = checkedReferences(inputs["reference_tokens"]!, sizes, config);
  const packed = { count: tokens.shapeValue(1, 2), name: "reference", sizes };
  const images = [targetPositions(grid), referencePositions(packed, config)];
  const reference = tokens.cast(compute);
  const prompts = new Map(
    (["prompt_embeds", "negative_prompt_embeds"] as const).flatMap((name) => {
      const embeds = inputs[name];
      if (embeds === undefined) return [];
      const text = textPositions(embeds.shapeValue(1, 2), String(embeds.dim(1)), grid);
      const { cos, sin } = ropeOfPositions([text, ...images], config);
      return [[name, { prompt: embeds.cast(compute), rope: { cos: cos.cast(compute), sin: sin.cast(compute) } }]];
    }),
  );
  return (x, modulation, which) => {
    const target = latentTokens(x, grid, config).cast(compute);
    const velocity = transformerVelocity({ target, reference, modulation, ...prompts.get(which)! }, w, config);
    return latentOfTokens(velocity, grid, { like: noise, config });
  };
}

function checkedReferences(tokens: Value, sizes: Value, config: TransformerConfig): Value {
  const wanted = referenceTokens(sizes, config).counts.sum().reshape([1]);
  const wrong = tokens.shapeValue(1, 2).sub(wanted);
  return refuseUnless(tokens, wrong, "reference_tokens must be as many as reference_sizes says");
}

interface State {
  readonly x: Value;
  /** f32 [1] */
  readonly sigma: Value;
  readonly modulation: ModulationSource;
}

// See guidedDenoise.
function denoisedBy(
  velocity: Velocity,
  { x, sigma, modulation }: State,
  inputs: Inputs,
  transformer: ExportedTransformer,
): Value {
  const predict = (which: Parameters<Velocity>[2]) => x.sub(velocity(x, modulation, which).mul(sigma));
  const positive = predict("prompt_embeds");
  const cfg = inputs["cfg"];
  const guided = cfg === undefined ? positive : guide(positive, predict("negative_prompt_embeds"), cfg);
  const { cfgNorm } = transformer;
  return cfgNorm === undefined ? guided : normalised(guided, positive, cfgNorm);
}

function guide(positive: Value, negative: Value, cfg: Value): Value {
  return negative.add(positive.sub(negative).mul(cfg));
}

// CFGNorm: shrinks each latent pixel whose norm grew past that of the positive prediction.
function normalised(guided: Value, positive: Value, strength: number): Value {
  const norm = (latent: Value) => sumOver(latent.mul(latent), 1).sqrt();
  const ratio = norm(positive).div(norm(guided).add(CFG_NORM_EPSILON)).min(1);
  return guided.mul(ratio).mul(strength);
}

function channelsOf({ patchWidth, patchSize }: TransformerConfig): number {
  return patchWidth / patchSize ** 2;
}
