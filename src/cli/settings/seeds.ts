// Options for several seeds: a list with ranges, or a count.
import * as v from "valibot";
import { optional } from "../../edit/parameters/parameter.js";
import { type Kind, number, RANDOM_SEED } from "../../edit/parameters/parameter-kinds.js";
import { QeditError } from "../../std/errors.js";

/** Largest count and longest range of seeds: ranges are easily mistyped. */
const MAX_SEEDS = 10_000;

/** Several seeds, written 1,5,9..12. */
const seedList: Kind<readonly bigint[]> = {
  schema: v.pipe(
    v.array(v.string()),
    v.transform((texts) => texts.flatMap((text) => text.split(",")).map((part) => rangeOf(part.trim()))),
    v.array(v.array(v.bigint())),
    v.transform((ranges): readonly bigint[] => ranges.flat()),
  ) as v.GenericSchema<unknown, readonly bigint[]>,
  wanted: "a list of whole numbers and ranges, such as 1,5,9..12,",
  isList: true,
};

/** Options for several pictures. */
export const seedOptions = {
  seeds: optional(seedList, {
    summary: "a picture for each of these seeds, such as 1,5,9..12",
    group: "Sampling",
    scope: "call",
    placeholder: "<list>",
  }),
  count: optional(number({ minimum: 1, maximum: MAX_SEEDS, whole: true }), {
    summary: "so many pictures, from the seed and the ones after it",
    group: "Sampling",
    scope: "call",
    placeholder: "<number>",
  }),
};

/** The seeds of a call: the list, or `count` seeds starting at `seed`, or `count` times RANDOM_SEED. Throws QEDIT_E_USAGE for duplicates in the list. */
export function seedsOf({
  seed,
  seeds: list,
  count,
}: {
  seed: bigint;
  seeds: readonly bigint[] | undefined;
  count: number | undefined;
}): readonly bigint[] {
  if (list === undefined) {
    const nth = (index: number) => (seed === RANDOM_SEED ? seed : (seed + BigInt(index)) % 2n ** 64n);
    return Array.from({ length: count ?? 1 }, (_, index) => nth(index));
  }
  const twice = list.find((each, index) => list.indexOf(each) < index);
  if (twice !== undefined)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use --seeds: ${twice} is in the list twice`, {
      hint: "Name every seed once",
    });
  return list;
}

// An invalid range is returned as text, which the schema refuses.
function rangeOf(part: string): readonly unknown[] {
  const match = /^(\d{1,20})(?:\.\.(\d{1,20}))?$/.exec(part);
  const first = match ? BigInt(match[1]!) : 0n;
  const last = match?.[2] === undefined ? first : BigInt(match[2]);
  if (!match || last < first || last >= 2n ** 64n || last - first >= BigInt(MAX_SEEDS)) return [part];
  return Array.from({ length: Number(last - first) + 1 }, (_, index) => first + BigInt(index));
}
