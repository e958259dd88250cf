// The families of models that are exported, by the name that an export's facts have, and what their clients need to know of each.
import { QWEN_IMAGE } from "../../models/qwen-image/family.js";
import { QWEN_IMAGE_VAE } from "../../models/qwen-image/vae.js";
import { QWEN_IMAGE_2 } from "../../models/qwen-image-2/qwen-image-2.js";
import { QWEN_IMAGE_2_VAE } from "../../models/qwen-image-2/vae-2.js";
import type { PromptConventions, TextEncoderName } from "../../models/text-encoder-family.js";
import { textEncoderNamed } from "../../models/text-encoders.js";
import { transformerOf } from "../../models/transformers.js";
import type { VaeFamily } from "../../models/vae-family.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";

/** The names of the families. */
export const EXPORTED_FAMILIES = ["qwen-image-edit", "qwen-image-2.1"] as const;
export type ExportedFamilyName = (typeof EXPORTED_FAMILIES)[number];

/** A family. */
export interface ExportedFamily {
  /** Its name, as models/transformers.ts has it. */
  readonly transformer: string;
  readonly textEncoder: TextEncoderName;
  readonly vae: Pick<VaeFamily, "sizes" | "isGenerative">;
  /** Whether prompts say between which of their tokens pictures stand. */
  readonly placesImages: boolean;
}

const FAMILIES: Readonly<Record<ExportedFamilyName, ExportedFamily>> = {
  "qwen-image-edit": {
    transformer: QWEN_IMAGE.name,
    textEncoder: "Qwen2.5-VL",
    vae: QWEN_IMAGE_VAE,
    placesImages: false,
  },
  "qwen-image-2.1": {
    transformer: QWEN_IMAGE_2.name,
    textEncoder: "Qwen3-VL",
    vae: QWEN_IMAGE_2_VAE,
    placesImages: true,
  },
};

/** The family of a name. */
export function exportedFamily(name: ExportedFamilyName): ExportedFamily {
  return FAMILIES[name];
}

/** The name of a transformer's family. */
export function exportedFamilyName({ checkpoint, config }: ModelHandle): ExportedFamilyName {
  const { family } = transformerOf(numbersOf(checkpoint), config);
  return EXPORTED_FAMILIES.find((name) => FAMILIES[name].transformer === family)!;
}

/** What a family's transformer wants of prompts and pictures. */
export function conventionsOf(name: ExportedFamilyName): PromptConventions {
  return textEncoderNamed(FAMILIES[name].textEncoder).conventions;
}
