// An edit by tensors: the stages of every edit, but that sizes, tokens and noise are given, and that nothing comes after decoding.
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Device } from "../../engine/providers.js";
import { vaeConfig } from "../../models/vaes.js";
import { decode } from "../../stages/decode.js";
import { encodeSizedImage } from "../../stages/encode-sized-image.js";
import { encodeTokens } from "../../stages/encode-tokens.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { sampleGivenNoise } from "../../stages/sample-noise.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import { localModels } from "../resolve/resolve-edit.js";
import type { EditContext } from "../service/context.js";
import { keptArtifacts } from "../service/kept-artifacts.js";
import type { OpenEdit, SubmittedEdit } from "../service/open-edit.js";
import { decodePicture } from "../service/run-stage.js";
import type { EditTensors } from "./edit-tensors.js";

/** An edit that has tensors. */
export type TensorEdit = SubmittedEdit & { readonly tensors: EditTensors };

/** Whether an edit is one by tensors. */
export function isTensorEdit(edit: SubmittedEdit): edit is TensorEdit {
  return edit.tensors !== undefined;
}

/** Opens an edit by tensors, as openEdit. */
export function openTensorEdit(edit: TensorEdit, context: EditContext, scratch?: ArtifactCache): OpenEdit {
  const { tensors, onArtifact, onPicture, isDrawn = false } = edit;
  const models = localModels(edit.resolved.models);
  const settings = settingsOf(edit);
  const { once, release } = keptArtifacts(context, { scratch, onArtifact });
  const latents = () =>
    once(encodeSizedImage, async () => ({ inputs: { pictures: tensors.pictures }, models, settings }));
  const cond = () => once(encodeTokens, async () => ({ inputs: tensors, models, settings }));
  const samples = () =>
    once(
      sampleGivenNoise,
      async () => ({
        inputs: { latents: await latents(), cond: await cond(), noise: tensors.noise, sigmas: tensors.sigmas },
        ...{ models, settings },
      }),
      isDrawn ? { ...context, cache: scratch } : context,
    );
  return {
    check: () => checkTensorEdit(edit, context.engine.device),
    ...{ latents, cond, samples },
    async picture() {
      const decoded = await decodePicture({ inputs: { samples: await samples() }, models, settings }, context);
      const picture = { ...decoded, drift: undefined };
      await onPicture?.(picture);
      return picture;
    },
    releaseArtifacts: release,
  };
}

/** Throws what is known to fail before anything is computed. */
export async function checkTensorEdit(edit: TensorEdit, device: Device): Promise<void> {
  const models = localModels(edit.resolved.models);
  const config = { models, settings: settingsOf(edit) };
  for (const stage of [encodeSizedImage, encodeTokens, sampleGivenNoise, decode])
    await stage.check(edit.tensors.pictures, config, device);
}

// An ensemble gives the picture as it is decoded.
function settingsOf({ resolved: { settings, models }, tensors: { cfg, noise } }: TensorEdit): ResolvedSettings {
  const { vae } = localModels(models);
  const { spatialRatio } = vaeConfig(numbersOf(vae.checkpoint));
  const [height, width] = noise.shape.slice(2).map((cells) => cells * spatialRatio) as [number, number];
  return { ...settings, cfg, size: { width, height }, keepSize: false, match: undefined };
}
