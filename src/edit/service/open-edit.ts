// A whole edit: four stages, each computed when its result is first needed.
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Device } from "../../engine/providers.js";
import { crop, type Image } from "../../image/image.js";
import type { LatentStatistics } from "../../models/qwen-image/transformer-config.js";
import { decode } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import type { Picture } from "../../stages/pictures.js";
import { sample } from "../../stages/sample.js";
import type { ArtifactStage, StageInput } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import type { Tensor } from "../../std/tensor.js";
import { withRegion } from "../finish/crop-mask.js";
import { checkFinish, type FinishedPicture } from "../finish/finish.js";
import { finishEdit } from "../finish/finish-edit.js";
import { fitLatentToRgb, type LatentToRgb, previewOf } from "../finish/latent-preview.js";
import { mentionHint, unmentionedPictures } from "../resolve/mention.js";
import type { ResolvedEdit } from "../resolve/resolve-edit.js";
import type { EditContext } from "./context.js";
import { runStage, timed } from "./run-stage.js";

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
}

/** An edit in progress. Each stage computes the results it needs, or reads them from the cache. */
export interface OpenEdit {
  /** Throws what is known to fail before anything is computed. */
  readonly check: () => Promise<void>;
  readonly latents: () => Promise<Artifact>;
  readonly cond: () => Promise<Artifact>;
  readonly samples: () => Promise<Artifact>;
  readonly picture: () => Promise<FinishedPicture>;
  /** Releases the artifacts in memory; those in the cache can be read again. */
  readonly releaseArtifacts: () => void;
}

/** Opens an edit. `scratch` stores artifacts that are not kept after the work is done. */
export function openEdit(edit: SubmittedEdit, context: EditContext, scratch?: ArtifactCache): OpenEdit {
  const { isDrawn = false, onArtifact, onBroken, onPicture, onPreview } = edit;
  const { settings, models, files } = edit.resolved;
  const held = new Map<string, Artifact>();
  const keys = new Map<string, string>();

  const once = async <Inputs, Models, Settings>(
    stage: ArtifactStage<Inputs, Models, Settings>,
    inputOf: () => Promise<StageInput<Inputs, Models, Settings>>,
    within = context,
  ): Promise<Artifact> => {
    const key = keys.get(stage.name);
    const stored = async (store: ArtifactCache | undefined) =>
      key === undefined ? undefined : store?.find(key, stage.output);
    const known = held.get(stage.name) ?? (await stored(context.cache)) ?? (await stored(scratch));
    if (known) return known;
    const made = await runStage(stage, await inputOf(), within);
    await onArtifact?.(made.artifact);
    if (made.key !== undefined) keys.set(stage.name, made.key);
    held.set(stage.name, made.artifact);
    return made.artifact;
  };
  // The mask decides it.
  const regional = async () =>
    withRegion(settings, { size: (await edit.pictures())[0]?.image, mask: (await edit.mask?.())?.image });
  const ofPictures = async () => ({
    inputs: { pictures: await edit.pictures() },
    models,
    settings: await regional(),
  });
  const latents = () => once(encodeImage, ofPictures);
  const cond = () => once(encodePrompt, ofPictures);
  const seen = async () => {
    const [{ region }, [first]] = [await regional(), await edit.pictures()];
    return region === undefined ? first!.image : crop(first!.image, region);
  };
  const samples = () => {
    let show: EditContext["onDenoised"];
    const within = { ...context, onDenoised: onPreview && ((latent: Tensor<"float32">) => show?.(latent)) };
    return once(
      sample,
      async () => {
        const inputs = { latents: await latents(), cond: await cond() };
        if (onPreview) show = previewing(inputs.latents, await seen(), onPreview);
        return { inputs, models, settings };
      },
      isDrawn ? { ...within, cache: scratch } : within,
    );
  };
  const originals = async () => ({ pictures: await edit.pictures(), mask: await edit.mask?.() });
  return {
    async check() {
      const { pictures, mask } = await originals();
      await checkEdit({ pictures, mask }, { models, settings: await regional() }, context.engine.device);
      const unmentioned = unmentionedPictures(settings.prompt, pictures.length);
      if (unmentioned.length > 0) context.emit({ kind: "note", text: mentionHint(unmentioned) });
    },
    latents,
    cond,
    samples,
    async picture() {
      const settings = await regional();
      const input = { inputs: { samples: await samples() }, models, settings };
      const decoded = await timed(decode.name, context, () => decode.run(input, context)).catch(
        async (error: unknown) => {
          const isBroken = error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT";
          throw onBroken && isBroken ? await onBroken(input.inputs.samples, error) : error;
        },
      );
      const { pictures, mask } = await originals();
      const finished = await finishEdit(decoded, { pictures, mask, files }, settings, context.emit);
      await onPicture?.(finished);
      return finished;
    },
    releaseArtifacts: () => held.clear(),
  };
}

// Previews of the latents of an edit, by a map that is fitted to the latent of picture 1 when the first one comes.
function previewing(
  { tensors, info }: Artifact,
  image: Image,
  onPreview: NonNullable<EditObserver["onPreview"]>,
): EditContext["onDenoised"] {
  const known = tensors["reference_latents.0"];
  const statistics = info.settings["latent_statistics"] as LatentStatistics | undefined;
  if (known === undefined || statistics === undefined) return undefined;
  let map: LatentToRgb | undefined;
  return (latent) => {
    map ??= fitLatentToRgb(known, statistics, image);
    onPreview(previewOf(latent, map));
  };
}

/** The input pictures. */
interface Originals {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
}

/** Throws what is known to fail before anything is computed: settings of every stage, and model files that do not belong together. */
export async function checkEdit(
  { pictures, mask }: Originals,
  { settings, models }: Pick<ResolvedEdit, "settings" | "models">,
  device: Device,
): Promise<void> {
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", {
      hint: 'qedit run photo.jpg -p "make it black and white"',
    });
  checkFinish({ pictures, mask }, settings);
  const agreed = new Map<string, { length: number; stage: string }>();
  for (const stage of [encodeImage, encodePrompt, sample, decode]) {
    for (const [name, length] of Object.entries(await stage.check(pictures, { models, settings }, device))) {
      const before = agreed.get(name) ?? { length, stage: stage.name };
      agreed.set(name, before);
      if (before.length === length) continue;
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use these model files together: ${name} is ${before.length} in ${before.stage}, ${length} in ${stage.name}`,
        { hint: `Give files of one model: ${param("vae")}, ${param("text_encoder")}, ${param("transformer")}` },
      );
    }
  }
}
