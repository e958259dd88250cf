// The work of a single stage on a request: what determines its result, and computing it in turn with everything else that the server does.
import type { Artifact } from "../../artifacts/artifact.js";
import { cacheKey } from "../../artifacts/artifact-cache.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { withRegion } from "../../edit/finish/crop-mask.js";
import { checkFinish, type FinishedPicture } from "../../edit/finish/finish.js";
import { finishEdit } from "../../edit/finish/finish-edit.js";
import { encodingOf } from "../../edit/finish/picture-encoding.js";
import { weightsElsewhere } from "../../edit/remote/remote-weights.js";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { determining, type EditStage } from "../../edit/request/edit-stage.js";
import type { EditService, StageCall } from "../../edit/service/service.js";
import type { Size } from "../../image/image.js";
import type { Step } from "../../image/resize/resize.js";
import { decode } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import type { Picture } from "../../stages/pictures.js";
import { sample } from "../../stages/sample.js";
import type { StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { qeditVersion } from "../../std/version.js";
import { inputOf } from "../request-identity.js";

const STAGES = { "encode-image": encodeImage, "encode-prompt": encodePrompt, sample, decode };

/** A stage of an edit with the pictures of the request, as files. */
export interface StageWork extends EditStage {
  readonly stage: StageName;
  /** The job's id. */
  readonly job: string;
  /** Whether the seed was left to chance. */
  readonly isDrawn: boolean;
  readonly pictures: readonly NamedBytes[];
  readonly mask: NamedBytes | undefined;
  /** Of the request: its artifacts by kind. */
  readonly artifacts: Partial<Readonly<Record<ArtifactKind, Artifact>>>;
  /** Their SHA-256 by kind. */
  readonly hashes: Readonly<Record<string, string>>;
}

/** The pictures of a stage, decoded. */
export interface Originals {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
}

/** SHA-256 of everything that determines the result of a stage, whoever computes it and when: its name in the store. */
export async function stageContent(work: StageWork): Promise<string> {
  const { stage, settings, values, models, called, hashes } = work;
  const { version, parameters } = STAGES[stage];
  const { loras = [], ...files } = models;
  const seesMask = stage === "decode" || (stage !== "sample" && settings.cropMask);
  const { cropMask, maskMargin } = settings;
  return cacheKey({
    ...{ stage, version, qedit: qeditVersion() },
    settings: stage === "decode" ? determining(settings) : determining(settings, parameters),
    ...(stage === "decode" && { encoding: encodingOf(values) }),
    weights: {
      ...Object.fromEntries(Object.entries(files).map(([role, file]) => [role, [file?.identity, file?.name]])),
      loras: loras.map(({ identity, name, strength }) => [identity, name, strength]),
      ...(called && (await weightsElsewhere([stage], { called, models: {}, job: work.job }))),
    },
    inputs: stage === "sample" ? [] : await Promise.all(work.pictures.map(inputOf)),
    ...(seesMask && work.mask && { mask: await inputOf(work.mask), cropMask, maskMargin: maskMargin ?? null }),
    artifacts: Object.entries(hashes).sort(([a], [b]) => (a < b ? -1 : 1)),
  });
}

/** Throws what is known to fail before anything is computed; `ahead` are the stages that are left. */
export async function checkStage(
  work: StageWork,
  { pictures, mask }: Originals,
  { service, ahead }: { service: EditService; ahead: readonly StageName[] },
): Promise<void> {
  const config = configOf(work, { pictures, mask });
  const isElsewhere = work.called !== undefined;
  if (work.stage !== "sample" && ahead.includes("decode")) {
    checkFinish({ pictures, mask }, work.settings);
    refuseWithoutPicture(work, pictures);
  }
  if (!isElsewhere) await STAGES[work.stage].check(pictures, config as never, service.devices[0]!);
  if (work.stage === "decode") refuseOthersSamples(work.artifacts.samples!, pictures);
}

/** Computes a stage that makes an artifact. */
export function makeArtifact(
  work: StageWork,
  originals: Originals,
  { service, ...call }: StageCall & { readonly service: EditService },
): Promise<Artifact> {
  const { settings, models } = configOf(work, originals);
  const { pictures } = originals;
  const { latents, cond } = work.artifacts;
  if (work.stage === "encode-image")
    return service.runStage(encodeImage, { inputs: { pictures }, models: { vae: models.vae }, settings }, call);
  if (work.stage === "encode-prompt") {
    const { textEncoder } = models;
    return service.runStage(encodePrompt, { inputs: { pictures }, models: { textEncoder }, settings }, call);
  }
  const { transformer, loras } = models;
  const input = {
    inputs: { latents: latents!, cond: cond! },
    models: { transformer, loras },
    settings,
  };
  return service.runStage(sample, input, { ...call, isDrawn: work.isDrawn });
}

/** Decodes the samples of the request, and finishes the picture. */
export async function makePicture(
  work: StageWork,
  originals: Originals,
  { service, ...call }: StageCall & { readonly service: EditService },
): Promise<FinishedPicture> {
  const { settings, models } = configOf(work, originals);
  const samples = work.artifacts.samples!;
  const decoded = await service.decode({ inputs: { samples }, models: { vae: models.vae }, settings }, call);
  const emit = call.emit ?? (() => {});
  const { mask } = originals;
  const pictures = placeOf(samples) === undefined ? [] : originals.pictures;
  if (pictures.length > 0 && !settings.keepSize) refuseOtherSize(samples, decoded.image);
  if (pictures.length > 0) return finishEdit(decoded, { pictures, mask }, settings, emit);
  // Nothing says what of picture 1 the samples of another tool show.
  const alone = await finishEdit(decoded, { pictures, mask: undefined }, { ...settings, keepExif: false }, emit);
  const exif = settings.keepExif ? originals.pictures[0]!.exif : undefined;
  return exif === undefined ? alone : { ...alone, exif };
}

function configOf({ settings, models, called }: StageWork, { pictures, mask }: Originals) {
  const regional = withRegion(settings, { size: pictures[0]?.image, mask: mask?.image });
  return { models, settings: { ...regional, ...called } };
}

function refuseWithoutPicture({ stage, settings, artifacts }: StageWork, pictures: readonly Picture[]): void {
  const wanted = (["pasteBack", "cropMask", "keepExif"] as const).find((name) => settings[name]);
  if (wanted === undefined) return;
  const name = { pasteBack: "paste_back", cropMask: "crop_mask", keepExif: "keep_exif" }[wanted];
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param(name)}: there is no picture 1`, {
      hint: "Send the pictures along",
      parameter: name,
    });
  if (stage !== "decode" || wanted === "keepExif" || placeOf(artifacts.samples!) !== undefined) return;
  throw new QeditError(
    "QEDIT_E_ARTIFACT",
    `Cannot use ${param(name)}: the samples do not say what of picture 1 they show`,
    { hint: "Make the samples with `qedit sample` from latents of `qedit encode-image`", parameter: name },
  );
}

interface Place {
  readonly source: Size;
  readonly steps: readonly Step[];
}

// How picture 1 became the result, as encode-image recorded it; undefined for the latents of another tool.
function placeOf({ info: { sizes } }: Artifact): Place | undefined {
  const { target, images } = sizes as { target?: Partial<Place>; images?: readonly { readonly source: Size }[] };
  const source = images?.[0]?.source;
  return target?.steps === undefined || source === undefined ? undefined : { source, steps: target.steps };
}

function refuseOthersSamples(samples: Artifact, [first]: readonly Picture[]): void {
  const place = placeOf(samples);
  if (first === undefined || place === undefined) return;
  const { width, height } = first.image;
  const recorded = samples.info.inputs["image.1"];
  if (recorded === first.hash && place.source.width === width && place.source.height === height) return;
  throw new QeditError(
    "QEDIT_E_ARTIFACT",
    `Cannot finish the samples with ${first.name}: they were made of another picture 1`,
    {
      hint: "Send the pictures that the samples were made of",
    },
  );
}

function refuseOtherSize(samples: Artifact, image: Size): void {
  const { source, steps } = placeOf(samples)!;
  const made = steps.reduce<Size>((_, step) => (step.kind === "crop" ? step.box : step.size), source);
  if (made.width === image.width && made.height === image.height) return;
  throw new QeditError(
    "QEDIT_E_ARTIFACT",
    `Cannot finish the samples: their record says ${made.width}x${made.height}, they are ${image.width}x${image.height}`,
    { hint: "Make the samples again" },
  );
}
