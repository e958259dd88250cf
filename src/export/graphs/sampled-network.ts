// What the exported samplers ask of a transformer, whatever family it is of.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import type { Adapter, Weights } from "../../checkpoint/weights.js";
import type { Optimization } from "../../engine/sessions/engine.js";
import { refuseUnless } from "../../graph/indexing.js";
import type { DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { type PackedReferences, referenceTokens } from "../../models/graph-tokens.js";
import { refuseOutside } from "./violations.js";

/** A transformer and how it is exported. */
export interface ExportedTransformer {
  readonly checkpoint: Checkpoint;
  /** LoRAs with fixed strengths. */
  readonly adapters: readonly Adapter[];
  readonly compute: DType;
  readonly optimization: Optimization;
  /** Strength of CFGNorm; undefined: none. */
  readonly cfgNorm: number | undefined;
}

/** The inputs of a sampler by name. */
export type SamplerInputs = Readonly<Record<string, Value>>;

/** Prompts of a sampler; their tensors begin with these names. */
export const PROMPTS = ["prompt", "negative_prompt"] as const;
export type PromptName = (typeof PROMPTS)[number];

/** The velocity at the noise level of a step, i64 [1], which is sigma, f32 [1]: of a latent under one of the prompts. */
export type VelocityAt = (step: Value, sigma: Value) => (x: Value, which: PromptName) => Value;

/** A transformer as exported samplers evaluate it. */
export interface SampledNetwork {
  /** Channels of a latent. */
  readonly channels: number;
  /** Latent cells along one side of a token. */
  readonly patchSize: number;
  /** Values of a token. */
  readonly tokenWidth: number;
  /** Width of a prompt's embeddings. */
  readonly textWidth: number;
  /** Adds what does not depend on the step, at the noise levels f32 [steps] of all of them; gives the velocity inside the loop. */
  velocityAt(
    inputs: SamplerInputs,
    levels: Value,
    options: { readonly w: Weights; readonly transformer: ExportedTransformer },
  ): VelocityAt;
}

/** References of a sampler: their tokens [1, tokens, width], and their sizes as the functions of models take them. A run where these disagree fails. */
export function packedReferences(
  inputs: SamplerInputs,
  patched: { readonly patchSize: number },
): { readonly tokens: Value; readonly packed: PackedReferences } {
  const given = inputs["reference_tokens"]!;
  // More than all tokens has no side: products of these cannot overflow.
  const most = given.shapeValue(1, 2).mul(patched.patchSize);
  const sizes = refuseOutside(
    inputs["reference_sizes"]!,
    most,
    "reference_sizes must be positive, and of no more cells than reference_tokens",
  );
  const wanted = referenceTokens(sizes, patched).counts.sum().reshape([1]);
  const wrong = given.shapeValue(1, 2).sub(wanted);
  const tokens = refuseUnless(given, wrong, "reference_tokens must be as many as reference_sizes says");
  return { tokens, packed: { count: tokens.shapeValue(1, 2), name: "reference", sizes } };
}
