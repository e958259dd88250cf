// Stages that run elsewhere: each on servers of the inference protocol. Another qedit takes the artifacts with their records and gives the artifact that a
// local run makes; exported models take bare tensors, and the artifact is made here.
import type { Artifact, ArtifactInfo } from "../../artifacts/artifact.js";
import { artifactHash } from "../../artifacts/artifact.js";
import type { Image } from "../../image/image.js";
import { usesNegative } from "../../sampling/guidance.js";
import type { DecodeSettings } from "../../stages/decode.js";
import type { EncodeImageSettings } from "../../stages/encode-image.js";
import type { EncodePromptSettings } from "../../stages/encode-prompt.js";
import { pictureHashes, pictureNames } from "../../stages/pictures.js";
import type { SampleSettings } from "../../stages/sample.js";
import type { Memoize, StageName } from "../../stages/stage.js";
import type { Emit } from "../../std/events.js";
import { decodeThere, encodeImageThere, encodePromptThere, sampleThere } from "./exported-stages.js";
import type { ExportedThere } from "./exported-there.js";
import { heldToEdit, heldToStage, type RemoteEdit } from "./exported-weights.js";
import { remoteProgress } from "./remote-events.js";
import { formOfEdit, formOfStage, OWN_FORMS } from "./remote-forms.js";
import { type RemoteAnswer, RemoteModel, type RemoteOptions, type RemoteServer } from "./remote-model.js";
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
  /** Memoizes the tokenizer. */
  readonly memoize?: Memoize | undefined;
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
  /** Throws unless servers answer that have the stages, and for what exported models cannot do of an edit. */
  readonly check: (context: RemoteContext, edit: RemoteEdit) => Promise<void>;
  /** encode-image, encode-prompt or sample. */
  readonly prepare: (stage: StageName, input: RemoteInput) => Promise<PreparedStage>;
  readonly decode: (input: RemoteInput, context: RemoteContext) => Promise<{ image: Image; info: ArtifactInfo }>;
  /** Warns once of weights that could not be verified. */
  readonly warnUnverified: (roles: readonly string[], from: string, emit: Emit) => void;
}

/** Opens no connection before a stage is asked for. */
export function openRemoteStages(servers: RemoteServers, options: RemoteOptions): RemoteStages {
  const elsewhere = stagesElsewhere(servers);
  const models = new Map(
    [...elsewhere].map((stage) => {
      const addresses = (servers[stage] ?? servers[WHOLE])!;
      return [stage, new RemoteModel(OWN_FORMS[stage].name, addresses, options)] as const;
    }),
  );
  const whole = servers[WHOLE] && new RemoteModel(WHOLE, servers[WHOLE], options);
  const warned = new Set<string>();
  const warnUnverified: RemoteStages["warnUnverified"] = (roles, from, emit) => {
    const unknown = roles.filter((role) => !warned.has(`${from} ${role}`));
    if (unknown.length === 0) return;
    for (const role of unknown) warned.add(`${from} ${role}`);
    const text = `whether ${from} computes with the weights of this model is not known: ${unknown.join(", ")}`;
    emit({ kind: "warning", text });
  };
  return {
    ...{ elsewhere, whole, warnUnverified },
    place: [...new Set(Object.values(servers).flat())].join(", "),
    has: (stage) => elsewhere.has(stage),
    async check({ emit, signal }, edit) {
      const { settings, count } = edit;
      const kind = { images: count, hasCfg: isGuided(settings) };
      if (whole)
        await whole.ask({ emit, signal }, async (server) => {
          const form = await formOfEdit(server, kind);
          if (form !== "qedit") await heldToEdit(form, edit);
        });
      else
        for (const [stage, model] of models)
          await model.ask({ emit, signal }, async (server) => {
            const form = await formOfStage(stage, server, { isGuided: kind.hasCfg });
            if (form !== "qedit") await heldToStage(form, { stage, ...edit });
          });
    },
    async prepare(stage, { inputs, settings, models: open }) {
      const asked = { stage, inputs, settings: ownSettings(stage, settings) };
      const expected = await expectedWeights([stage], asked.settings, open);
      return {
        identity: identityOf(asked, { expected, servers: serversText(servers, stage) }),
        async run(context) {
          if (stage === "sample" && context.onDenoised !== undefined)
            context.emit({ kind: "note", text: `no previews: sample runs on ${serversText(servers, stage)}` });
          const made = await models
            .get(stage)!
            .ask(context, (server) => artifactFrom(server, { asked, expected, models: open }, context));
          warnUnverified(made.unverified, made.from, context.emit);
          return { artifact: made.artifact, isVerified: made.unverified.length === 0 };
        },
      };
    },
    async decode({ inputs, settings, models: open }, context) {
      const asked = { stage: "decode" as const, inputs, settings: ownSettings("decode", settings) };
      const expected = await expectedWeights(["decode"], asked.settings, open);
      const made = await models
        .get("decode")!
        .ask(context, (server) => pictureFrom(server, { asked, expected, models: open }, context));
      warnUnverified(made.unverified, made.from, context.emit);
      return { image: made.image, info: made.info };
    },
  };
}

interface Work {
  readonly asked: Asked;
  readonly expected: WeightsByRole;
  readonly models: OpenWeights;
}

/** Where a result comes from, and the roles whose weights could not be verified. */
interface Origin {
  readonly unverified: readonly string[];
  readonly from: string;
}

async function artifactFrom(
  server: RemoteServer,
  { asked, expected, models }: Work,
  context: RemoteContext,
): Promise<Origin & { readonly artifact: Artifact }> {
  const { stage, settings, inputs } = asked;
  const form = await formOfStage(stage, server, { isGuided: stage === "sample" && isGuided(settings) });
  if (form === "qedit") {
    const { record, kind } = OWN_FORMS[stage];
    const answer = await answerOf(server, asked, context);
    const artifact = artifactOfAnswer(kind, record, { answer, asked });
    return { artifact, unverified: unverifiedWeights(artifact.info, expected, answer), from: answer.from };
  }
  const unverified = await heldToStage(form, { stage, settings, models, count: countOf(inputs) });
  return { artifact: await artifactThere(form, asked, context), unverified, from: form.from };
}

function artifactThere(there: ExportedThere, { stage, inputs, settings }: Asked, context: RemoteContext) {
  const { pictures = [], latents, cond } = inputs;
  const given = settings as unknown;
  if (stage === "encode-image")
    return encodeImageThere(there, { pictures, settings: given as EncodeImageSettings }, context);
  if (stage === "encode-prompt")
    return encodePromptThere(there, { pictures, settings: given as EncodePromptSettings }, context);
  return sampleThere(there, { latents: latents!, cond: cond!, settings: given as SampleSettings }, context);
}

async function pictureFrom(
  server: RemoteServer,
  { asked, expected, models }: Work,
  context: RemoteContext,
): Promise<Origin & { readonly image: Image; readonly info: ArtifactInfo }> {
  const { stage, settings, inputs } = asked;
  const form = await formOfStage(stage, server, { isGuided: false });
  if (form === "qedit") {
    const answer = await answerOf(server, asked, context);
    const made = await pictureOfAnswer({ answer, asked });
    return { ...made, unverified: unverifiedWeights(made.info, expected, answer), from: answer.from };
  }
  const unverified = await heldToStage(form, { stage, settings, models, count: 1 });
  const input = { samples: inputs.samples!, settings: settings as unknown as DecodeSettings };
  return { ...(await decodeThere(form, input, context)), unverified, from: form.from };
}

async function answerOf(server: RemoteServer, asked: Asked, { emit }: RemoteContext): Promise<RemoteAnswer> {
  const request = { model: OWN_FORMS[asked.stage].name, ...(await requestOf(asked)) };
  return server.infer(request, remoteProgress(emit, { hasStages: false }));
}

// References of a sample, which has no pictures.
function countOf({ pictures, latents }: RemoteInputs): number {
  return pictures?.length ?? Math.max(Object.keys(latents?.tensors ?? {}).length - 1, 0);
}

function isGuided({ cfg }: RemoteSettings): boolean {
  return typeof cfg === "number" && usesNegative(cfg);
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
