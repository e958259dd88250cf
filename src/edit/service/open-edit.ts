// A whole edit: four stages, each computed when its result is first needed.
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Device } from "../../engine/providers.js";
import { crop, type Image } from "../../image/image.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { type DecodedPicture, decode } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import type { Picture } from "../../stages/pictures.js";
import { sample } from "../../stages/sample.js";
import { QeditError } from "../../std/errors.js";
import type { Tensor } from "../../std/tensor.js";
import { withRegion } from "../finish/crop-mask.js";
import { checkFinish, type FinishedPicture } from "../finish/finish.js";
import { finishEdit } from "../finish/finish-edit.js";
import { fitLatentToRgb, type LatentToRgb, previewOf, publishedLatentToRgb } from "../finish/latent-preview.js";
import type { RemoteModel } from "../remote/remote-model.js";
import type { RemoteStages } from "../remote/remote-stages.js";
import { editElsewhere } from "../remote/whole-edit.js";
import { mentionHint, unmentionedPictures } from "../resolve/mention.js";
import type { LocalModels, ResolvedEdit, ResolvedSettings } from "../resolve/resolve-edit.js";
import { refuseWithoutPicture } from "../resolve/without-picture.js";
import type { EditTensors } from "../tensors/edit-tensors.js";
import type { EditContext } from "./context.js";
import { keptArtifacts } from "./kept-artifacts.js";
import { decodePicture } from "./run-stage.js";

/** Callbacks while an edit is made. If one throws, the edit fails. */
export interface EditObserver {
  /** Receives each artifact between the stages. */
  readonly onArtifact?: (artifact: Artifact) => Promise<void>;
  /** Receives the samples if the decoded picture is broken; returns the error to throw. */
  readonly onBroken?: (samples: Artifact, error: QeditError) => Promise<QeditError>;
  /** Receives a small picture of what is being made, after each step but the last. */
  readonly onPreview?: (preview: Image) => void;
  /** Receives the finished picture. */
  readonly onPicture?: (picture: FinishedPicture) => Promise<void>;
}

/** A submitted edit: resolved, with pictures that are read lazily. */
export interface SubmittedEdit extends EditObserver {
  readonly resolved: ResolvedEdit;
  readonly pictures: () => Promise<readonly Picture[]>;
  /** White where the edit belongs; undefined: no mask. */
  readonly mask?: (() => Promise<Picture | undefined>) | undefined;
  /** Whether the seed was drawn at random; then its samples are not cached. */
  readonly isDrawn?: boolean;
  /** Tensors that it is made of instead of pictures, a prompt and a seed. */
  readonly tensors?: EditTensors | undefined;
}

/** An edit in progress. Each stage computes the results it needs, or reads them from the cache. */
export interface OpenEdit {
  /** Throws what is known to fail before anything is computed. */
  readonly check: () => Promise<void>;
  /** undefined, as the others: another machine makes the whole edit. */
  readonly latents: () => Promise<Artifact | undefined>;
  readonly cond: () => Promise<Artifact | undefined>;
  readonly samples: () => Promise<Artifact | undefined>;
  readonly picture: () => Promise<FinishedPicture>;
  /** Releases the artifacts in memory; those in the cache can be read again. */
  readonly releaseArtifacts: () => void;
}

/** Opens an edit. `scratch` stores artifacts that are not kept after the work is done. */
export function openEdit(edit: SubmittedEdit, context: EditContext, scratch?: ArtifactCache): OpenEdit {
  const { remote } = context;
  if (remote?.whole) return openElsewhere(edit, { context, remote, whole: remote.whole });
  const { isDrawn = false, onArtifact, onBroken, onPreview } = edit;
  const { settings, models, called } = edit.resolved;
  const { once, release } = keptArtifacts(context, { scratch, onArtifact });
  // The mask decides it.
  const regional = async () => ({ ...(await regionalSettings(edit)), ...called });
  const ofPictures = async () => ({
    inputs: { pictures: await edit.pictures() },
    models,
    settings: await regional(),
  });
  const latents = () => once(encodeImage, ofPictures);
  const cond = () => once(encodePrompt, ofPictures);
  const seen = async () => {
    const [{ region }, [first]] = [await regional(), await edit.pictures()];
    if (first === undefined) return undefined;
    return region === undefined ? first.image : crop(first.image, region);
  };
  const samples = () => {
    let show: EditContext["onDenoised"];
    const within = { ...context, onDenoised: onPreview && ((latent: Tensor<"float32">) => show?.(latent)) };
    return once(
      sample,
      async () => {
        const inputs = { latents: await latents(), cond: await cond() };
        if (onPreview) show = previewing(inputs.latents, await seen(), onPreview);
        return { inputs, models, settings: { ...settings, ...called } };
      },
      isDrawn ? { ...within, cache: scratch } : within,
    );
  };
  return {
    check: () => checkOpened(edit, context),
    latents,
    cond,
    samples,
    async picture() {
      const settings = await regional();
      const input = { inputs: { samples: await samples() }, models, settings };
      const decoded = await decodePicture(input, context).catch(async (error: unknown) => {
        const isBroken = error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT";
        throw onBroken && isBroken ? await onBroken(input.inputs.samples, error) : error;
      });
      return finished(decoded, settings, { edit, context });
    },
    releaseArtifacts: release,
  };
}

// One call makes all of it; what comes after decoding is done here, but the crop around a mask, which decides what is edited.
function openElsewhere(
  edit: SubmittedEdit,
  { context, remote, whole }: { context: EditContext; remote: RemoteStages; whole: RemoteModel },
): OpenEdit {
  const { emit, signal, memoize } = context;
  const { warnUnverified } = remote;
  const nothing = async () => undefined;
  return {
    check: () => checkOpened(edit, context),
    ...{ latents: nothing, cond: nothing, samples: nothing, releaseArtifacts() {} },
    async picture() {
      const settings = await regionalSettings(edit);
      if (edit.onPreview) emit({ kind: "note", text: "no previews: the edit is made elsewhere" });
      const { pictures, mask } = await originalsOf(edit);
      const asked = { pictures, mask, settings: { ...settings, ...edit.resolved.called } };
      const { isPlaced, ...decoded } = await editElsewhere(whole, asked, { emit, signal, memoize, warnUnverified });
      const made = { ...decoded, isDescribed: !settings.noMetadata };
      return finished(made, isPlaced ? { ...settings, pasteBack: false } : settings, { edit, context });
    },
  };
}

async function originalsOf({ pictures, mask }: SubmittedEdit): Promise<Originals> {
  return { pictures: await pictures(), mask: await mask?.() };
}

// The mask decides which part of picture 1 is edited.
async function regionalSettings(edit: SubmittedEdit): Promise<ResolvedSettings> {
  const { pictures, mask } = await originalsOf(edit);
  return withRegion(edit.resolved.settings, { size: pictures[0]?.image, mask: mask?.image });
}

async function checkOpened(edit: SubmittedEdit, context: EditContext): Promise<void> {
  const originals = await originalsOf(edit);
  const { models } = edit.resolved;
  const settings = await regionalSettings(edit);
  await checkEdit(originals, { models, settings }, context.engine.device, context.remote);
  await context.remote?.check(context, {
    ...{ settings: { ...settings, ...edit.resolved.called }, models },
    count: originals.pictures.length,
  });
  const unmentioned = unmentionedPictures(edit.resolved.settings.prompt, originals.pictures.length);
  if (unmentioned.length > 0) context.emit({ kind: "note", text: mentionHint(unmentioned) });
}

// What comes after decoding.
async function finished(
  decoded: DecodedPicture,
  settings: ResolvedSettings,
  { edit, context }: { edit: SubmittedEdit; context: EditContext },
): Promise<FinishedPicture> {
  const { files } = edit.resolved;
  const picture = await finishEdit(decoded, { ...(await originalsOf(edit)), files }, settings, context.emit);
  await edit.onPicture?.(picture);
  return picture;
}

// Previews of the latents of an edit, by a map that is fitted to the latent of picture 1 when the first one comes, or that of its family without pictures.
function previewing(
  { tensors, info }: Artifact,
  image: Image | undefined,
  onPreview: NonNullable<EditObserver["onPreview"]>,
): EditContext["onDenoised"] {
  const known = tensors["reference_latents.0"] as Tensor<"float32"> | undefined;
  const statistics = info.settings["latent_statistics"] as LatentStatistics | undefined;
  if (statistics === undefined) return undefined;
  let map: LatentToRgb | undefined;
  return (latent) => {
    map ??=
      known === undefined || image === undefined
        ? publishedLatentToRgb(latent.shape[1]!)
        : fitLatentToRgb(known, statistics, image);
    onPreview(previewOf(latent, map));
  };
}

/** The input pictures. */
interface Originals {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
}

/** Throws what is known to fail before anything is computed: what each stage that runs here refuses. */
export async function checkEdit(
  { pictures, mask }: Originals,
  { settings, models }: Pick<ResolvedEdit, "settings" | "models">,
  device: Device,
  remote?: Pick<RemoteStages, "has">,
): Promise<void> {
  if (pictures.length === 0) refuseWithoutPicture(settings, models);
  checkFinish({ pictures, mask }, settings);
  const stages = [encodeImage, encodePrompt, sample, decode].filter(({ name }) => !remote?.has(name));
  for (const stage of stages) await stage.check(pictures, { models: models as LocalModels, settings }, device);
}
