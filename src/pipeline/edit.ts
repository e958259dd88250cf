// A whole edit: the four stages in order, one large session at a time, with the artifacts kept when asked for.
import { join } from "node:path";
import { writeArtifact, type Artifact } from "../artifacts/artifact.js";
import { QeditError } from "../errors.js";
import { usesNegative } from "../sampling/guidance.js";
import { decode, type DecodedPicture } from "../stages/decode.js";
import { encodeImage } from "../stages/encode-image.js";
import { encodePrompt } from "../stages/encode-prompt.js";
import type { SettingsOf } from "../stages/option.js";
import type { Picture } from "../stages/pictures.js";
import { sample } from "../stages/sample.js";
import { resolveSampling } from "../stages/sampling-defaults.js";
import type { StageContext } from "../stages/stage.js";

/** The options of all stages together. */
export const editOptions = { ...encodeImage.options, ...encodePrompt.options, ...sample.options, ...decode.options };

/** The settings of an edit. */
export type EditSettings = SettingsOf<typeof editOptions>;

/** What to edit. */
export interface EditRequest {
  readonly pictures: readonly Picture[];
  readonly settings: EditSettings;
  /** Folder for the artifacts; undefined keeps none. */
  readonly keep: string | undefined;
}

/** Runs one piece of work as a stage of that name, with its start and end told. */
export async function timed<T>(stage: string, { emit, signal }: StageContext, work: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const start = performance.now();
  emit({ kind: "start", stage });
  const result = await work();
  emit({ kind: "end", stage, seconds: (performance.now() - start) / 1000 });
  return result;
}

/** Edits pictures. Everything that can be known to fail is checked before the first file is opened for computing. */
export async function edit({ pictures, settings, keep }: EditRequest, context: StageContext): Promise<DecodedPicture> {
  if (pictures.length === 0) throw new QeditError("QEDIT_E_USAGE", "No picture was given", { hint: 'qedit run photo.jpg -p "make it black and white"' });
  const complete = withNegativePrompt(settings);
  await checkStages(pictures, complete, context);

  const keepAs = async (artifact: Artifact): Promise<Artifact> => {
    if (keep !== undefined) await writeArtifact(join(keep, `${artifact.kind}.safetensors`), artifact);
    return artifact;
  };
  const latents = await timed(encodeImage.name, context, async () => keepAs(await encodeImage.run({ pictures }, complete, context)));
  const cond = await timed(encodePrompt.name, context, async () => keepAs(await encodePrompt.run({ pictures }, complete, context)));
  const samples = await timed(sample.name, context, async () => keepAs(await sample.run({ latents, cond }, complete, context)));
  return timed(decode.name, context, () => decode.run({ samples }, complete, context));
}

// Model files that are each sound may still not belong together.
async function checkStages(pictures: readonly Picture[], settings: EditSettings, { engine }: StageContext): Promise<void> {
  const agreed = new Map<string, { length: number; stage: string }>();
  for (const stage of [encodeImage, encodePrompt, sample, decode]) {
    for (const [name, length] of Object.entries(await stage.check(pictures, settings, engine.device))) {
      const before = agreed.get(name) ?? { length, stage: stage.name };
      agreed.set(name, before);
      if (before.length === length) continue;
      throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot use these model files together: ${name} is ${before.length} in ${before.stage}, ${length} in ${stage.name}`, {
        hint: "Give files of one model: --vae, --text-encoder, --transformer",
      });
    }
  }
}

// The negative prompt is read only where guidance looks at it; ComfyUI's template has an empty one.
function withNegativePrompt(settings: EditSettings): EditSettings {
  const { cfg } = resolveSampling(settings);
  if (usesNegative(cfg)) return { ...settings, negativePrompt: settings.negativePrompt ?? "" };
  return { ...settings, negativePrompt: undefined };
}
