// Reads a request for a single stage: its settings as those of the whole edit, the pictures and artifacts that the stage needs, all within the limits.
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { RANDOM_SEED } from "../../edit/parameters/parameter-kinds.js";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { resolveEditStage } from "../../edit/request/edit-stage.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { recordFault, shapeFault } from "../artifact-limits.js";
import type { EditServer } from "../edit-server.js";
import { checkCount, checkWork } from "../limits.js";
import { refuseOtherSettings } from "./agreed-settings.js";
import type { ClaimStore } from "./claim-store.js";
import { seedOf } from "./envelopes.js";
import type { SentArtifact, SentPicture, StageRequest } from "./kafka-messages.js";
import type { StageStore } from "./stage-store.js";
import type { StageWork } from "./stage-work.js";

/** What a request is read with. */
interface ReadingParts {
  readonly store: ClaimStore;
  readonly artifacts: StageStore;
  readonly server: Pick<EditServer, "base" | "library" | "limits">;
  readonly emit: Emit;
}

/** Kinds of artifacts that each stage reads. */
const NEEDED: Readonly<Record<StageName, readonly string[]>> = {
  "encode-image": [],
  "encode-prompt": [],
  sample: ["latents", "cond"],
  decode: ["samples"],
};

/** The work of a stage on a request; `ahead` are the stages that are left. Throws as resolveEditStage, and QEDIT_E_IMAGE, QEDIT_E_ARTIFACT. */
export async function readStageWork(
  request: StageRequest,
  ahead: readonly StageName[],
  { store, artifacts: kept, server, emit }: ReadingParts,
): Promise<StageWork> {
  const { limits, base, library } = server;
  const stage = ahead[0]!;
  const parameters = Object.fromEntries(Object.entries(request.parameters).filter(([, value]) => value !== null));
  const resolved = await resolveEditStage(stage, { parameters }, { base, library, emit });
  if (ahead.includes("encode-prompt")) refuseEmptyPrompt(resolved.settings);
  checkWork(resolved.settings, limits);
  const isDrawn = resolved.settings.seed === RANDOM_SEED;
  const settings = isDrawn ? { ...resolved.settings, seed: seedOf(request.envelope.job_id) } : resolved.settings;
  if (request.settings !== null) refuseOtherSettings(request.settings, settings);
  const seesPictures = stage !== "sample";
  const pictures = seesPictures ? await filesOf(request.images, store) : [];
  const [mask] = seesPictures && request.mask ? await filesOf([request.mask], store) : [];
  if (pictures.length > 0) checkCount(pictures.length, limits);
  const needed = request.artifacts.filter(({ kind }) => NEEDED[stage].includes(kind));
  const artifacts: Partial<Record<ArtifactKind, Artifact>> = {};
  for (const each of needed) artifacts[each.kind as ArtifactKind] = await artifactOf(each, { artifacts: kept, server });
  const hashes = Object.fromEntries(needed.map(({ kind, file }) => [kind, file.sha256]));
  const { job_id: job } = request.envelope;
  const work = { ...resolved, settings, stage, job, isDrawn, pictures, mask, artifacts, hashes };
  refuseOtherVae(work, request);
  return work;
}

/** Seconds by stage that a request may have: those of the stages before. */
export function secondsOf({ seconds, envelope: { workflow, cursor } }: StageRequest): StageRequest["seconds"] {
  const before = STAGES.filter((stage) => workflow.slice(0, cursor).includes(stage));
  const known = before.flatMap((stage) => {
    const value = seconds[stage];
    return value !== undefined && Number.isFinite(value) && value >= 0 ? [[stage, value]] : [];
  });
  return Object.fromEntries(known);
}

async function filesOf(pictures: readonly SentPicture[], store: ClaimStore): Promise<NamedBytes[]> {
  const files = [];
  for (const picture of pictures) files.push({ name: picture.name, bytes: await store.unpack(picture) });
  return files;
}

async function artifactOf(
  sent: SentArtifact,
  { artifacts, server: { limits } }: Pick<ReadingParts, "artifacts" | "server">,
): Promise<Artifact> {
  const artifact = await artifacts.read(sent);
  const faults = Object.entries(artifact.tensors).map(([name, { shape }]) => {
    const fault = shapeFault(shape, limits);
    return fault && `tensor "${name}": ${fault}`;
  });
  const fault = faults.find(Boolean) ?? recordFault(artifact, limits);
  if (fault === undefined) return artifact;
  throw new QeditError("QEDIT_E_ARTIFACT", `Cannot use ${sent.file.uri.slice(0, 200)} as ${sent.kind}: ${fault}`);
}

// As in a whole edit: the picture is decoded with the VAE that its pictures were encoded with.
function refuseOtherVae({ stage, models, artifacts }: StageWork, { envelope }: StageRequest): void {
  const encoded = artifacts.samples?.info.weights["vae"];
  const isOfWorkflow = envelope.workflow.slice(0, envelope.cursor).includes("encode-image");
  // What a server elsewhere decoded with stands in its answer.
  if (stage !== "decode" || encoded === undefined || !isOfWorkflow || models.vae === undefined) return;
  const { identity, name } = models.vae;
  if (encoded === identity) return;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot decode with ${name}: the pictures were encoded with another VAE (${encoded.slice(0, 12)}…, found ${identity.slice(0, 12)}…)`,
    { hint: "Give the workers of encode-image and decode the same VAE" },
  );
}
