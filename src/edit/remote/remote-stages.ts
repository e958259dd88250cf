// Stages that run elsewhere: each on servers of the inference protocol. Here it is another qedit, whose stages take the artifacts with their
// records and give the artifact that a local run makes.
import type { Artifact, ArtifactInfo } from "../../artifacts/artifact.js";
import { artifactHash } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import type { Image } from "../../image/image.js";
import type { ListedModel } from "../../kserve/client/v2-client.js";
import { pictureHashes, pictureNames } from "../../stages/pictures.js";
import type { StageName } from "../../stages/stage.js";
import type { Emit } from "../../std/events.js";
import { remoteProgress } from "./remote-events.js";
import { foreignModel, type RemoteAnswer, RemoteModel, type RemoteOptions } from "./remote-model.js";
import { type RemoteServers, serversText, stagesElsewhere, WHOLE } from "./remote-servers.js";
import { expectedWeights, type OpenWeights, unverifiedWeights, type WeightsByRole } from "./remote-weights.js";
import { type Asked, artifactOfAnswer, pictureOfAnswer } from "./stage-answers.js";
import { ownSettings, type RemoteInputs, type RemoteSettings, stageParameters, stageTensors } from "./stage-tensors.js";

/** One call of a stage. */
export interface RemoteInput {
  readonly inputs: RemoteInputs;
  readonly settings: RemoteSettings;
  /** Model files that are open here, for stages that run here. */
  readonly models: OpenWeights;
}

/** How it is followed. */
export interface RemoteContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Receives previews where the stage runs here: none come from elsewhere. */
  readonly onDenoised?: unknown;
}

/** A result, and whether it was computed with the weights that this machine expects. */
export interface RemoteArtifact {
  readonly artifact: Artifact;
  readonly isVerified: boolean;
}

/** A stage about to be asked for. */
export interface PreparedStage {
  /** Everything that determines the result, the expected weights included, as JSON. */
  readonly identity: object;
  readonly run: (context: RemoteContext) => Promise<RemoteArtifact>;
}

/** The stages that run elsewhere. */
export interface RemoteStages {
  readonly elsewhere: ReadonlySet<StageName>;
  readonly has: (stage: StageName) => boolean;
  /** Their servers, for messages and results. */
  readonly place: string;
  /** The model that makes the whole edit in one call; undefined: stage by stage. */
  readonly whole: RemoteModel | undefined;
  /** Throws unless servers answer that have the stages. */
  readonly check: (context: RemoteContext) => Promise<void>;
  /** encode-image, encode-prompt or sample. */
  readonly prepare: (stage: StageName, input: RemoteInput) => Promise<PreparedStage>;
  readonly decode: (input: RemoteInput, context: RemoteContext) => Promise<{ image: Image; info: ArtifactInfo }>;
  /** Warns once of weights that could not be verified. */
  readonly warnUnverified: (roles: readonly string[], from: string, emit: Emit) => void;
}

/** The model of each stage, what tells that it is of qedit's form, and the record of its result. */
const MODELS = {
  "encode-image": { name: "encode_image", inputs: ["IMAGE", "IMAGE_NAMES"], record: "latents_record", kind: "latents" },
  "encode-prompt": { name: "encode_prompt", inputs: ["PROMPT", "IMAGE"], record: "cond_record", kind: "cond" },
  sample: {
    name: "sample",
    inputs: ["latent", "latents_record", "cond_record"],
    record: "samples_record",
    kind: "samples",
  },
  decode: { name: "decode", inputs: ["latent_tensor", "samples_record"], record: "RECIPE", kind: "samples" },
} as const satisfies Readonly<
  Record<StageName, { name: string; inputs: readonly string[]; record: string; kind: ArtifactKind }>
>;

/** What tells that the model of the whole edit is of qedit's form. */
const WHOLE_TENSORS = { inputs: ["IMAGE", "PROMPT"], outputs: ["IMAGE", "RECIPE"] };

/** Opens no connection before a stage is asked for. */
export function openRemoteStages(servers: RemoteServers, options: RemoteOptions): RemoteStages {
  const elsewhere = stagesElsewhere(servers);
  const models = new Map(
    [...elsewhere].map((stage) => [stage, modelOf(stage, (servers[stage] ?? servers[WHOLE])!, options)] as const),
  );
  const whole = servers[WHOLE] && new RemoteModel(WHOLE, servers[WHOLE], options, refuseForeign(WHOLE, WHOLE_TENSORS));
  const warned = new Set<string>();
  const warnUnverified: RemoteStages["warnUnverified"] = (roles, from, emit) => {
    const unknown = roles.filter((role) => !warned.has(`${from} ${role}`));
    if (unknown.length === 0) return;
    for (const role of unknown) warned.add(`${from} ${role}`);
    const text = `whether ${from} computes with the weights of this model is not known: ${unknown.join(", ")}`;
    emit({ kind: "warning", text });
  };
  const ask = async (stage: StageName, asked: Asked, context: RemoteContext): Promise<RemoteAnswer> =>
    models.get(stage)!.infer(await requestOf(asked), {
      emit: context.emit,
      signal: context.signal,
      onProgress: remoteProgress(context.emit, { hasStages: false }),
    });
  return {
    ...{ elsewhere, whole, warnUnverified },
    place: [...new Set(Object.values(servers).flat())].join(", "),
    has: (stage) => elsewhere.has(stage),
    async check(context) {
      for (const model of whole ? [whole] : models.values()) await model.check(context);
    },
    async prepare(stage, { inputs, settings, models: open }) {
      const asked = { stage, inputs, settings: ownSettings(stage, settings) };
      const expected = await expectedWeights([stage], asked.settings, open);
      const { record, kind } = MODELS[stage];
      return {
        identity: identityOf(asked, { expected, servers: serversText(servers, stage) }),
        async run(context) {
          if (stage === "sample" && context.onDenoised !== undefined)
            context.emit({ kind: "note", text: `no previews: sample runs on ${serversText(servers, stage)}` });
          const answer = await ask(stage, asked, context);
          const artifact = artifactOfAnswer(kind, record, { answer, asked });
          const unverified = unverifiedWeights(artifact.info, expected, answer);
          warnUnverified(unverified, answer.from, context.emit);
          return { artifact, isVerified: unverified.length === 0 };
        },
      };
    },
    async decode({ inputs, settings, models: open }, context) {
      const asked = { stage: "decode" as const, inputs, settings: ownSettings("decode", settings) };
      const expected = await expectedWeights(["decode"], asked.settings, open);
      const answer = await ask("decode", asked, context);
      const { image, info } = await pictureOfAnswer({ answer, asked });
      warnUnverified(unverifiedWeights(info, expected, answer), answer.from, context.emit);
      return { image, info };
    },
  };
}

function modelOf(stage: StageName, addresses: readonly string[], options: RemoteOptions): RemoteModel {
  const { name, inputs, record } = MODELS[stage];
  return new RemoteModel(name, addresses, options, refuseForeign(name, { inputs, outputs: [record] }));
}

// Throws QEDIT_E_NETWORK for a model that lacks some of our inputs or outputs.
function refuseForeign(
  name: string,
  { inputs, outputs }: { readonly inputs: readonly string[]; readonly outputs: readonly string[] },
): (model: ListedModel, address: string) => void {
  return (model, address) => {
    const has = (listed: ListedModel["inputs"], wanted: string) => listed.some((each) => each.name === wanted);
    const isOurs = inputs.every((each) => has(model.inputs, each)) && outputs.every((each) => has(model.outputs, each));
    if (!isOurs) throw foreignModel(name, model, address);
  };
}

async function requestOf({ stage, inputs, settings }: Asked) {
  const parameters = stageParameters(stage, settings);
  return {
    tensors: await stageTensors(stage, inputs, settings),
    // The picture is encoded here, with its recipe.
    parameters: stage === "decode" ? { ...parameters, format: "png", no_metadata: true } : parameters,
  };
}

function identityOf(
  { stage, inputs, settings }: Asked,
  { expected, servers }: { expected: WeightsByRole; servers: string },
): object {
  const { pictures, latents, cond } = inputs;
  const { prompt = null, negativePrompt = null, lora = [], region = null } = settings as Record<string, unknown>;
  return {
    ...{ servers, parameters: stageParameters(stage, settings), prompt, negativePrompt, lora, region },
    ...(pictures && { inputs: pictureHashes(pictures), names: pictureNames(pictures) }),
    ...(latents && { latents: artifactHash(latents) }),
    ...(cond && { cond: artifactHash(cond) }),
    expected,
  };
}
