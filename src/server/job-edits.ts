// What a job works on, and what its result is: a picture file, or the pixels of an edit by tensors.
import { parseRecipe, recipeText } from "../artifacts/recipe.js";
import type { FinishedPicture } from "../edit/finish/finish.js";
import { encodingOf } from "../edit/finish/picture-encoding.js";
import type { RequestSettings } from "../edit/request/edit-request.js";
import { localModels, type ResolvedEdit } from "../edit/resolve/resolve-edit.js";
import type { EditObserver, SubmittedEdit } from "../edit/service/open-edit.js";
import type { TensorEdit } from "../edit/tensors/open-tensor-edit.js";
import { withAlpha } from "../image/alpha.js";
import { RGBA_CHANNELS } from "../image/image.js";
import { vaeConfig } from "../models/vaes.js";
import { numbersOf } from "../stages/networks/model-handle.js";
import { fileHash } from "../std/file-hash.js";
import type { JobResult } from "./job-types.js";
import type { LazyPictures } from "./lazy-pictures.js";
import { pictureResult } from "./picture-result.js";

/** The work of a job. */
export interface JobEdit {
  readonly edit: Omit<SubmittedEdit, keyof EditObserver>;
  /** Of its noise in decimal; empty where the noise was sent. */
  readonly seed: string;
  readonly resultOf: (
    picture: FinishedPicture,
    making: Pick<JobResult, "seed" | "device" | "seconds">,
  ) => Promise<{ readonly bytes: Uint8Array; readonly result: JobResult }>;
  /** Lets go of what can be read again. */
  readonly release: () => void;
}

/** The MIME type of pixels. */
const PIXELS = "application/octet-stream";

/** An edit of pictures; its result is a file. */
export function pictureJob({
  resolved,
  values,
  isDrawn,
  pictures,
}: {
  readonly resolved: ResolvedEdit;
  readonly values: RequestSettings;
  readonly isDrawn: boolean;
  readonly pictures: LazyPictures;
}): JobEdit {
  return {
    edit: { resolved, ...pictures.lazy, isDrawn },
    seed: String(resolved.settings.seed),
    resultOf: (picture, making) => pictureResult(picture, { ...making, encoding: encodingOf(values) }),
    release: () => pictures.release(),
  };
}

/** An edit by tensors as it is asked for. */
export type TensorRequest = Pick<TensorEdit, "resolved" | "pictures" | "tensors">;

/** An edit by tensors; its result is the pixels, [height, width, channels], with the channels that the VAE has. */
export function tensorJob(request: TensorRequest): JobEdit {
  const { vae } = localModels(request.resolved.models);
  const { imageChannels: channels } = vaeConfig(numbersOf(vae.checkpoint));
  return {
    // The noise is drawn by the client: it hardly comes again.
    edit: { ...request, isDrawn: true },
    seed: "",
    async resultOf({ image, info }, making) {
      const { width, height, data } = channels === RGBA_CHANNELS ? withAlpha(image) : image;
      const result = {
        ...{ sha256: await fileHash(data), type: PIXELS, bytes: data.length, width, height, ...making },
        ...{ drift: null, recipe: parseRecipe(recipeText(info))! },
      };
      return { bytes: data, result };
    },
    release() {},
  };
}
