// Model files of one edit: what each gives the next, the next must take.
import { languageConfig } from "../../models/text-encoders.js";
import { vaeConfig } from "../../models/vaes.js";
import { param, QeditError } from "../../std/errors.js";
import { type ModelHandle, type ModelRole, numbersOf } from "./model-handle.js";
import { sampledTransformer } from "./sampled-parts.js";

/** The model files of an edit that are known here. */
export type KnownFiles = { readonly [Role in ModelRole]?: ModelHandle | undefined };

/** Throws QEDIT_E_CHECKPOINT for a transformer that takes other latents than the VAE gives, or other prompt embeddings than the text encoder does. */
export function refuseForeignFiles({ vae, textEncoder, transformer }: KnownFiles): void {
  if (transformer === undefined) return;
  const { latentChannels, textWidth } = sampledTransformer(transformer, {});
  if (vae !== undefined) {
    const { latentChannels: given } = vaeConfig(numbersOf(vae.checkpoint));
    const text = `${vae.name} makes latents of ${given} channels, ${transformer.name} takes ${latentChannels}`;
    if (given !== latentChannels) throw refusal(text, "vae");
  }
  if (textEncoder !== undefined) {
    const { width: given } = languageConfig(numbersOf(textEncoder.checkpoint), textEncoder.config);
    const text = `${textEncoder.name} makes prompt embeddings of ${given} numbers, ${transformer.name} takes ${textWidth}`;
    if (given !== textWidth) throw refusal(text, "text_encoder");
  }
}

function refusal(text: string, name: "vae" | "text_encoder"): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot use these model files together: ${text}`, {
    hint: `Give files of one model: ${param(name)}, ${param("transformer")}`,
  });
}
