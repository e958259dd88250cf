// Which transformers exported graphs, and edits by their tensors, are made for.
import { transformerOf } from "../../models/transformers.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";

/** The family of a transformer whose edits no exported graphs make: those take prompts that say nothing of where pictures stand. undefined for one that can be exported. */
export function unexportedFamily({ checkpoint, config }: ModelHandle): string | undefined {
  const { placesImages, family } = transformerOf(numbersOf(checkpoint), config);
  return placesImages ? family : undefined;
}
