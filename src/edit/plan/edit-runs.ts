// Every run of every network of an edit, from its lengths and steps.

import type { Lengths } from "../../graph/lengths.js";
import type { Size } from "../../image/image.js";
import type { Source } from "../../image/resize/size-plan.js";
import type { LatentRoute } from "../../image/resize/size-routes.js";
import { languageLengths } from "../../models/text-encoder-family.js";
import { sampleLatent, samplingSigmas } from "../../sampling/driver.js";
import { type StepCacheNeeds, sampledTokens } from "../../stages/networks/transformer-plan.js";
import { type SamplingNumbers, samplingOf } from "../../stages/sample.js";
import type { StageName } from "../../stages/stage.js";
import { float32 } from "../../std/tensor.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import { type EditLengths, editLengths } from "./edit-lengths.js";
import { decodedBytes, finishBytes } from "./finish-memory.js";
import type { PlannedNetwork, PlannedNetworks } from "./networks.js";

/** Evaluations of the transformer with the prompt and with the negative prompt. */
export interface Evaluations {
  readonly positive: number;
  readonly negative: number;
}

/** A run of a network at given lengths, and its number of repetitions. */
export interface Run {
  readonly lengths: Lengths;
  readonly times: number;
}

/** The runs of an edit. */
export interface EditRuns extends EditLengths {
  readonly sampling: SamplingNumbers;
  readonly steps: number;
  readonly evaluations: Evaluations;
  readonly runs: ReadonlyMap<PlannedNetwork, readonly Run[]>;
  /** Bytes of the decoded input pictures and mask, which stay in memory. */
  readonly pictureBytes: number;
  /** What the process takes beside those after decoding. */
  readonly finishBytes: number;
  /** What a step cache takes; undefined: there is none. */
  readonly stepCache: StepCacheNeeds | undefined;
}

/** What determines them besides the pictures. */
export interface RunsRequest {
  readonly settings: ResolvedSettings;
  readonly networks: PlannedNetworks;
  readonly tokenizer: PromptTokenizer;
  readonly mask?: Size | undefined;
  /** Stages that run elsewhere. */
  readonly elsewhere?: ReadonlySet<StageName>;
  /** Number of result pictures; both encoders run once for all of them. */
  readonly results: number;
}

/** The runs of an edit. Throws QEDIT_E_USAGE and QEDIT_E_IMAGE for what `run` refuses. */
export async function editRuns(
  sources: readonly Source[],
  { settings, networks, tokenizer, results, mask, elsewhere = new Set() }: RunsRequest,
): Promise<EditRuns> {
  const lengths = editLengths(sources, { settings, networks, tokenizer });
  const sampling: SamplingNumbers = settings;
  const evaluations = await evaluationsOf(sampling);
  return {
    ...lengths,
    sampling,
    steps: Math.max(samplingSigmas(samplingOf(sampling)).length - 1, 0),
    evaluations,
    runs: new Map(
      [...runsOf(networks, { ...lengths, evaluations, results })].filter(([{ stage }]) => !elsewhere.has(stage)),
    ),
    pictureBytes: decodedBytes(mask ? [...sources, mask] : sources),
    finishBytes: finishBytes(lengths.sizes, settings, { mask, channels: decodedChannels(networks) }),
    stepCache: networks.stepCache?.(sampledTokens(lengths.tokens)),
  };
}

// The decoder gives a picture as bytes, u8 [1, H, W, channels].
function decodedChannels({ vaeDecoder: { graph } }: PlannedNetworks): number {
  return Number(graph.outputs.get("image")!.dim(-1));
}

// Samplers differ in their number of evaluations: count them by sampling a latent of one element with a trivial model.
async function evaluationsOf(sampling: SamplingNumbers): Promise<Evaluations> {
  const counts = { positive: 0, negative: 0 };
  const velocity = async (x: Float32Array, _sigma: number, which: keyof Evaluations) => {
    counts[which] += 1;
    return x.map((value) => value / 2);
  };
  // The real seed may be drawn later.
  await sampleLatent(
    velocity,
    { ...samplingOf(sampling), seed: 0n },
    { latent: float32([1, 1, 1, 1]), mean: [0], std: [1] },
  );
  return counts;
}

function runsOf(
  networks: PlannedNetworks,
  {
    sizes,
    tokens,
    evaluations,
    results,
  }: Pick<EditRuns, "sizes" | "tokens" | "evaluations"> & Pick<RunsRequest, "results">,
): EditRuns["runs"] {
  const cells = ({ latent }: LatentRoute): Lengths => ({ h: latent.height, w: latent.width });
  // The target often has the route of the first reference: it is encoded once. Without pictures nothing is.
  const routes = new Set(
    sizes.images.length > 0 ? [sizes.target, ...sizes.images.map(({ reference }) => reference)] : [],
  );
  const prompts = [tokens.prompt, ...(tokens.negativePrompt ? [tokens.negativePrompt] : [])];
  const { target, references } = tokens;
  const lengthsOf = (text: number) => networks.sampled.lengths({ text, target, references });
  const sampled = [
    { lengths: lengthsOf(tokens.prompt.seen), times: evaluations.positive * results },
    { lengths: lengthsOf(tokens.negativePrompt?.seen ?? 0), times: evaluations.negative * results },
  ].filter(({ times }) => times > 0);
  const { transformerPrefix: prefix } = networks;
  return new Map<PlannedNetwork, readonly Run[]>([
    [networks.vaeEncoder, [...routes].map((route) => ({ lengths: cells(route), times: 1 }))],
    [networks.visionTower, sizes.images.map(({ vision }) => ({ lengths: { tokens: vision.tokens }, times: 1 }))],
    [networks.languageModel, prompts.map(({ total }) => ({ lengths: languageLengths(total), times: 1 }))],
    ...(prefix ? [[prefix, sampled.map(({ lengths }) => ({ lengths, times: results }))] as const] : []),
    [networks.transformer, sampled],
    [networks.vaeDecoder, [{ lengths: cells(sizes.target), times: results }]],
  ]);
}
