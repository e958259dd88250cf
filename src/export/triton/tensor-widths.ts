// The lengths of tensors that the model files decide.
import { languageConfig, visionConfig } from "../../models/text-encoders.js";
import { transformerOf } from "../../models/transformers.js";
import { vaeNumbers } from "../../models/vaes.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { param, QeditError } from "../../std/errors.js";
import type { TensorWidths } from "./tensor-specs.js";

/** Opened model files. */
export interface WidthFiles {
  readonly vae: ModelHandle;
  readonly textEncoder: ModelHandle;
  readonly transformer: ModelHandle;
}

/**
 * The lengths that model files decide. Throws QEDIT_E_CHECKPOINT for files that do not belong together: artifacts say what a stage takes; of tensors one
 * stage's are the next one's without a look in between.
 */
export function tensorWidths({ vae, textEncoder, transformer }: WidthFiles): TensorWidths {
  const config = transformerOf(numbersOf(transformer.checkpoint), transformer.config);
  const text = numbersOf(textEncoder.checkpoint);
  const vision = visionConfig(text, textEncoder.config);
  const { latentChannels, imageChannels, sizes } = vaeNumbers(numbersOf(vae.checkpoint));
  const { width } = languageConfig(text, textEncoder.config);
  const refuse = (what: string, { file }: { file: string }, option: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${transformer.checkpoint.file} with ${file}: ${what}`, {
      hint: `Give the one that belongs to the transformer: ${param(option, "FILE")}`,
    });
  const wanted = config.latentChannels;
  if (latentChannels !== wanted)
    throw refuse(`latents have ${latentChannels} channels, ${wanted} are wanted`, vae.checkpoint, "vae");
  if (width !== config.textWidth)
    throw refuse(
      `embeddings are ${width} wide, ${config.textWidth} are wanted`,
      textEncoder.checkpoint,
      "text_encoder",
    );
  return {
    ...{ imageChannels, latentChannels },
    sideMultiple: sizes.multiple,
    pictures: { least: config.generates ? 0 : 1, most: config.mostPictures },
    placesImages: config.placesImages,
    tokenWidth: latentChannels * config.patchSize ** 2,
    promptWidth: width,
    pixelWidth: vision.channels * vision.temporalPatchSize * vision.patchSize ** 2,
  };
}
