// Identifies a checkpoint, and says why qedit would refuse to run it or what it would not read: what opening it for an edit says, word for word.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { refuseImplausibleWeights } from "../../checkpoint/magnitudes.js";
import { asComputed } from "../../checkpoint/packed/packed-layout.js";
import { type ModelPart, partsOfWhole, publishedNames } from "../../checkpoint/published-names.js";
import { reviewPart } from "../../models/review-part.js";
import { QeditError } from "../../std/errors.js";
import { type Identity, identify, type NetworkKind } from "./identify.js";

/** The part of a model that a network is. */
export const PART_OF: Partial<Record<NetworkKind, ModelPart>> = {
  vae: "vae",
  "text-encoder": "text_encoder",
  transformer: "transformer",
};

/** Identifies a checkpoint, whose keys are as stored in the file, and examines it. Throws QEDIT_E_IO when its weights cannot be read. */
export async function examine(checkpoint: Checkpoint): Promise<Identity> {
  const identity = identify(checkpoint);
  const part = PART_OF[identity.kind];
  if (part === undefined) return identity;
  const warnings: string[] = [];
  try {
    for (const each of new Set([part, ...partsOfWhole(checkpoint)])) {
      const published = publishedNames(checkpoint, each);
      const { warning } = reviewPart(asComputed(published), each);
      await refuseImplausibleWeights(published);
      if (warning !== undefined) warnings.push(warning);
    }
    return { ...identity, notes: [...identity.notes, ...warnings] };
  } catch (error) {
    if (!(error instanceof QeditError) || error.code === "QEDIT_E_IO") throw error;
    return { ...identity, notes: [...identity.notes, error.message], refusal: error.message };
  }
}
