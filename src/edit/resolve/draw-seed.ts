// Draws the seed of an edit that leaves it to chance.
import { randomInt } from "node:crypto";
import type { Emit } from "../../std/events.js";
import { RANDOM_SEED } from "../parameters/parameter-kinds.js";

/** Random seeds are below this: torch's CPU generator uses only 32 bits of a seed. */
const RANDOM_BELOW = 2 ** 32;

/** The settings with a random seed for RANDOM_SEED; emits a note with the drawn seed. */
export function drawSeed<Settings extends { readonly seed: bigint }>(
  settings: Settings,
  emit: Emit,
): { readonly settings: Settings; readonly isDrawn: boolean } {
  if (settings.seed !== RANDOM_SEED) return { settings, isDrawn: false };
  const seed = BigInt(randomInt(RANDOM_BELOW));
  emit({ kind: "note", text: `seed ${seed}` });
  return { settings: { ...settings, seed }, isDrawn: true };
}
