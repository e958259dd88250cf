// Seeds as users write them: a list with ranges, a count of them, or one that is drawn.
import { randomInt } from "node:crypto";
import { type Option, RANDOM_SEED } from "../../stages/option.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";

/** Torch's CPU generator takes 32 bits of a seed: more would be drawn in vain. */
const DRAWN_BELOW = 2 ** 32;

/** A sheet of more pictures than this is a batch, and a range is easily mistyped. */
const MOST = 10_000;

/** Several seeds, written 1,5,9..12; undefined when not given. */
export const seeds: Option<readonly bigint[] | undefined> = {
  flags: "--seeds <list>",
  summary: "a picture for each of these seeds, such as 1,5,9..12",
  initial: undefined,
  isPerCall: true,
  group: "Sampling",
  parse: (text, before) => [...(before ?? []), ...text.split(",").flatMap((part) => rangeOf(part.trim(), text))],
};

/** The settings with a number where the seed was to be drawn, which is told. */
export function drawSeed<Settings extends { readonly seed: bigint }>(
  settings: Settings,
  emit: Emit,
): { readonly settings: Settings; readonly isDrawn: boolean } {
  if (settings.seed !== RANDOM_SEED) return { settings, isDrawn: false };
  const seed = BigInt(randomInt(DRAWN_BELOW));
  emit({ kind: "note", text: `seed ${seed}` });
  return { settings: { ...settings, seed }, isDrawn: true };
}

/** The seeds of a call: those of the list, or `count` from the seed on, or as many drawn. Throws QEDIT_E_USAGE when a list names one twice. */
export function seedsOf({
  seed,
  seeds: list,
  count,
}: {
  seed: bigint;
  seeds: readonly bigint[] | undefined;
  count: number | undefined;
}): readonly bigint[] {
  if (list === undefined)
    return Array.from({ length: count ?? 1 }, (_, index) =>
      seed === RANDOM_SEED ? seed : (seed + BigInt(index)) % 2n ** 64n,
    );
  const twice = list.find((each, index) => list.indexOf(each) < index);
  if (twice !== undefined)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use --seeds: ${twice} is in the list twice`, {
      hint: "Name every seed once",
    });
  return list;
}

function rangeOf(part: string, whole: string): bigint[] {
  const match = /^(\d+)(?:\.\.(\d+))?$/.exec(part);
  const first = match ? BigInt(match[1]!) : 0n;
  const last = match?.[2] === undefined ? first : BigInt(match[2]);
  if (!match || last < first || last >= 2n ** 64n || last - first >= BigInt(MOST)) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use "${whole}" for --seeds: whole numbers and ranges are wanted, such as 1,5,9..12`,
      { hint: "--seeds 1,5,9..12" },
    );
  }
  return Array.from({ length: Number(last - first) + 1 }, (_, index) => first + BigInt(index));
}
