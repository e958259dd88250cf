// What an edit runs: sizes of the pictures, tokens of the prompts, steps, and from them the lengths of every run of every network.
import { CHANNELS } from "../../image/image.js";
import { planSizes, type LatentRoute, type PlanMode, type SizePlan, type Source } from "../../image/plan.js";
import { sampleLatent, samplingSigmas } from "../../sampling/driver.js";
import { usesNegative } from "../../sampling/guidance.js";
import { resolveSampling, type ResolvedSampling } from "../../stages/sampling-defaults.js";
import { float32 } from "../../tensor.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { EditSettings } from "../edit.js";
import type { Lengths } from "../../graph/liveness.js";
import type { PlannedNetwork, PlannedNetworks } from "./networks.js";
import { promptTokens, type PromptTokens } from "./tokens.js";

/** Evaluations of the transformer, under each of the two prompts. */
export interface Evaluations {
  readonly positive: number;
  readonly negative: number;
}

/** A run of a network at some lengths, and how often it is made. */
export interface Run {
  readonly lengths: Lengths;
  readonly times: number;
}

/** Tokens of the sequences of an edit. */
export interface SequenceTokens {
  readonly prompt: PromptTokens;
  /** Where guidance looks at a negative prompt. */
  readonly negativePrompt: PromptTokens | undefined;
  readonly target: number;
  readonly references: readonly number[];
  /** The transformer's sequence under the prompt: its text, the target and the references. */
  readonly total: number;
}

/** What an edit runs. */
export interface EditRuns {
  readonly sizes: SizePlan;
  readonly sampling: ResolvedSampling;
  readonly steps: number;
  readonly evaluations: Evaluations;
  readonly tokens: SequenceTokens;
  readonly runs: ReadonlyMap<PlannedNetwork, readonly Run[]>;
  /** Of the decoded pictures, which stay in memory. */
  readonly pictureBytes: number;
}

/** What decides them besides the pictures. */
export interface RunsRequest {
  readonly settings: EditSettings;
  readonly networks: PlannedNetworks;
  readonly tokenizer: PromptTokenizer;
  /** How many pictures are made: both encoders run once for all of them. */
  readonly results: number;
}

/** The settings as far as they decide what is run. Throws QEDIT_E_USAGE and QEDIT_E_IMAGE for what `run` refuses. */
export async function editRuns(sources: readonly Source[], { settings, networks, tokenizer, results }: RunsRequest): Promise<EditRuns> {
  const sizes = sizesOf(sources, settings, networks);
  const sampling = resolveSampling(settings);
  const evaluations = await evaluationsOf(sampling);
  const vision = sizes.images.map((image) => image.vision.tokens);
  const read = (prompt: string) => promptTokens(tokenizer, prompt, { vision, unescapeParentheses: settings.match !== undefined });
  const prompt = read(settings.prompt);
  const negativePrompt = usesNegative(sampling.cfg) ? read(settings.negativePrompt ?? "") : undefined;
  const { patchSize } = networks.sampled;
  const target = gridTokens(sizes.target, patchSize);
  const references = sizes.images.map(({ reference }) => gridTokens(reference, patchSize));
  const tokens = { prompt, negativePrompt, target, references, total: prompt.seen + target + sum(references) };
  return { sizes, sampling, steps: Math.max(samplingSigmas(sampling).length - 1, 0), evaluations, tokens, runs: runsOf(networks, { sizes, tokens, evaluations, results }), pictureBytes: CHANNELS * sum(sources.map(({ width, height }) => width * height)) };
}

function sizesOf(sources: readonly Source[], { match, megapixels, size }: EditSettings, { vae, vision }: PlannedNetworks): SizePlan {
  return planSizes(sources, {
    mode: (match ?? "default") as PlanMode,
    cell: vae.spatialRatio,
    patches: { patch: vision.patchSize, temporal: vision.temporalPatchSize, merge: vision.mergeSize },
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(size === undefined ? {} : { size }),
  });
}

function gridTokens({ latent }: LatentRoute, patchSize: number): number {
  return Math.ceil(latent.width / patchSize) * Math.ceil(latent.height / patchSize);
}

// By sampling a latent of one number with a model that costs nothing: samplers differ in how often they ask.
async function evaluationsOf(sampling: ResolvedSampling): Promise<Evaluations> {
  const asked = { positive: 0, negative: 0 };
  const velocity = async (x: Float32Array, _sigma: number, which: keyof Evaluations) => {
    asked[which] += 1;
    return x.map((value) => value / 2);
  };
  // The seed may be one that is drawn later.
  await sampleLatent(velocity, { ...sampling, seed: 0n }, { latent: float32([1, 1, 1, 1]), mean: [0], std: [1] });
  return asked;
}

function runsOf(networks: PlannedNetworks, { sizes, tokens, evaluations, results }: Pick<EditRuns, "sizes" | "tokens" | "evaluations"> & Pick<RunsRequest, "results">): EditRuns["runs"] {
  const cells = ({ latent }: LatentRoute): Lengths => ({ h: latent.height, w: latent.width });
  // The target's route is often the first reference's own: then one run serves both.
  const routes = new Set([sizes.target, ...sizes.images.map(({ reference }) => reference)]);
  const prompts = [tokens.prompt, ...(tokens.negativePrompt ? [tokens.negativePrompt] : [])];
  const image = { target: tokens.target, reference: sum(tokens.references) };
  const sampled = [
    { lengths: { ...image, text: tokens.prompt.seen }, times: evaluations.positive * results },
    { lengths: { ...image, text: tokens.negativePrompt?.seen ?? 0 }, times: evaluations.negative * results },
  ];
  return new Map<PlannedNetwork, readonly Run[]>([
    [networks.vaeEncoder, [...routes].map((route) => ({ lengths: cells(route), times: 1 }))],
    [networks.visionTower, sizes.images.map(({ vision }) => ({ lengths: { tokens: vision.tokens }, times: 1 }))],
    [networks.languageModel, prompts.map(({ total }) => ({ lengths: { tokens: total }, times: 1 }))],
    [networks.transformer, sampled.filter(({ times }) => times > 0)],
    [networks.vaeDecoder, [{ lengths: cells(sizes.target), times: results }]],
  ]);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
