// A whole edit: the four stages in order, each result made when it is first asked for, with the artifacts kept when asked for.
import { join } from "node:path";
import { type Artifact, writeArtifact } from "../artifacts/artifact.js";
import type { ArtifactCache } from "../artifacts/artifact-cache.js";
import { usesNegative } from "../sampling/guidance.js";
import { decode } from "../stages/decode.js";
import { encodeImage } from "../stages/encode-image.js";
import { encodePrompt } from "../stages/encode-prompt.js";
import type { OptionTable, SettingsOf } from "../stages/option.js";
import type { Picture } from "../stages/pictures.js";
import { sample } from "../stages/sample.js";
import { resolveSampling } from "../stages/sampling-defaults.js";
import type { StageContext } from "../stages/stage.js";
import { QeditError } from "../std/errors.js";
import type { PipelineContext } from "./context.js";
import { checkFinish, type FinishedPicture, finish, finishOptions } from "./finish.js";
import { startReadingAhead } from "./memory-ahead.js";
import { mentionHint, unmentionedPictures } from "./mention.js";
import { rememberFiles, withOwnNames } from "./remembered.js";
import { runStage, type StageCall, type StageResult, timed } from "./run-stage.js";
import { startOpeningAhead } from "./sessions-ahead.js";

/** The options of all stages together. */
export const editOptions = {
  ...encodeImage.options,
  ...encodePrompt.options,
  ...sample.options,
  ...decode.options,
  ...finishOptions,
};

/** The settings of an edit. */
export type EditSettings = SettingsOf<typeof editOptions>;

/** What to edit. */
export interface EditRequest {
  readonly pictures: readonly Picture[];
  readonly settings: EditSettings;
  /** Folder for the artifacts; undefined keeps none. */
  readonly keep: string | undefined;
  /** Claims that the seed was drawn: nobody will ask for these samples again. */
  readonly isDrawn?: boolean;
  /** Saves the samples of a picture that came out broken, and gives the error that says where they lie. */
  readonly salvage?: (samples: Artifact, error: QeditError) => Promise<QeditError>;
}

/** What an edit needs, with pictures that are read when they are needed. */
export type EditSource = Omit<EditRequest, "pictures"> & { readonly pictures: () => Promise<readonly Picture[]> };

/** An edit under way. What a stage needs from those before it is made, or found again, when it is asked for. */
export interface OpenEdit {
  /** Throws what can be known before anything is computed. */
  readonly check: () => Promise<void>;
  readonly latents: () => Promise<Artifact>;
  readonly cond: () => Promise<Artifact>;
  readonly samples: () => Promise<Artifact>;
  readonly picture: () => Promise<FinishedPicture>;
  /** Forgets the artifacts in memory; those in the cache are found again. */
  readonly rest: () => void;
}

/** Edits pictures. Everything that can be known to fail is checked before the first file is opened for computing. */
export async function edit(request: EditRequest, context: PipelineContext): Promise<FinishedPicture> {
  const source = { ...request, pictures: async () => request.pictures };
  await openEdit(source, context).check();
  const reading = startReadingAhead(request.settings, context);
  const opening = startOpeningAhead(request.pictures, request.settings, reading.context);
  try {
    return await openEdit(source, opening.context).picture();
  } finally {
    await opening.stop();
    await reading.stop();
  }
}

/** Opens an edit. `passing` is where results go that are not worth keeping after the work is done. */
export function openEdit(source: EditSource, context: PipelineContext, passing?: ArtifactCache): OpenEdit {
  const { keep, isDrawn = false, salvage } = source;
  const settings = withNegativePrompt(source.settings);
  const held = new Map<string, Artifact>();
  const keys = new Map<string, string>();

  const once = async <Inputs, Table extends OptionTable>(
    stage: StageCall<Inputs, Table>["stage"],
    make: () => Promise<StageResult>,
  ): Promise<Artifact> => {
    const key = keys.get(stage.name);
    const known =
      held.get(stage.name) ??
      (key === undefined
        ? undefined
        : ((await context.cache?.find(key, stage.output)) ?? (await passing?.find(key, stage.output))));
    if (known) return known;
    const made = await make();
    if (keep !== undefined) await writeArtifact(join(keep, `${stage.output}.safetensors`), made.artifact);
    if (made.key !== undefined) keys.set(stage.name, made.key);
    held.set(stage.name, made.artifact);
    return made.artifact;
  };
  const latents = () =>
    once(encodeImage, async () =>
      runStage({ stage: encodeImage, inputs: { pictures: await source.pictures() }, settings }, context),
    );
  const cond = () =>
    once(encodePrompt, async () =>
      runStage({ stage: encodePrompt, inputs: { pictures: await source.pictures() }, settings }, context),
    );
  const samples = () =>
    once(sample, async () =>
      runStage(
        { stage: sample, inputs: { latents: await latents(), cond: await cond() }, settings },
        isDrawn ? { ...context, cache: passing } : context,
      ),
    );
  return {
    async check() {
      const pictures = await source.pictures();
      await checkEdit(pictures, settings, context);
      const unmentioned = unmentionedPictures(settings.prompt, pictures.length);
      if (unmentioned.length > 0) context.emit({ kind: "note", text: mentionHint(unmentioned) });
    },
    latents,
    cond,
    samples,
    async picture() {
      const decoded = await samples();
      const picture = await timed(decode.name, context, () =>
        decode.run({ samples: decoded }, settings, context),
      ).catch(async (error: unknown) => {
        throw salvage && error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT"
          ? await salvage(decoded, error)
          : error;
      });
      const pictures = await source.pictures();
      const finished = await finish(
        { ...picture, info: withOwnNames(picture.info, pictures, settings) },
        pictures,
        settings,
        context,
      );
      await rememberFiles(finished.info, pictures, settings);
      return finished;
    },
    rest: () => held.clear(),
  };
}

/** Throws what can be known before anything is computed: files and settings of every stage, and whether the model files belong together. */
export async function checkEdit(
  pictures: readonly Picture[],
  settings: EditSettings,
  { engine }: { readonly engine: Pick<StageContext["engine"], "device"> },
): Promise<void> {
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", {
      hint: 'qedit run photo.jpg -p "make it black and white"',
    });
  await checkFinish(pictures, settings);
  const agreed = new Map<string, { length: number; stage: string }>();
  for (const stage of [encodeImage, encodePrompt, sample, decode]) {
    for (const [name, length] of Object.entries(await stage.check(pictures, settings, engine.device))) {
      const before = agreed.get(name) ?? { length, stage: stage.name };
      agreed.set(name, before);
      if (before.length === length) continue;
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use these model files together: ${name} is ${before.length} in ${before.stage}, ${length} in ${stage.name}`,
        {
          hint: "Give files of one model: --vae, --text-encoder, --transformer",
        },
      );
    }
  }
}

// The negative prompt is read only where guidance looks at it; ComfyUI's template has an empty one.
function withNegativePrompt(settings: EditSettings): EditSettings {
  const { cfg } = resolveSampling(settings);
  if (usesNegative(cfg)) return { ...settings, negativePrompt: settings.negativePrompt ?? "" };
  return { ...settings, negativePrompt: undefined };
}
