// The kinds of parameter values: a schema for JSON values, and a function that converts the text of a flag, an environment variable or a recipe
// into a value for the schema.
import * as v from "valibot";

/** A kind of value; T is the schema's output. */
export interface Kind<T> {
  /** Checks a JSON value and converts it to T. */
  readonly schema: v.GenericSchema<unknown, T>;
  /** Converts a text to the schema's input; default: the text itself. */
  readonly fromText?: (text: string) => unknown;
  /** For messages: `a whole number from 1 to 10000`. */
  readonly wanted: string;
  /** The allowed words, if it is one of a few. */
  readonly choices?: readonly string[];
  /** Whether the value is a list; every occurrence of its flag adds to it. */
  readonly isList?: boolean;
  /** Whether its text is parts separated by commas: several texts of a form are one then. */
  readonly isJoined?: boolean;
  /** Whether the value is a switch; its flag takes no value. */
  readonly isSwitch?: boolean;
  /** For a flag that may stand without a value: whether a text is one, else what follows is something else. The flag alone means `on`. */
  readonly isValue?: (text: string) => boolean;
}

// A schema has a typed input; here the input is unknown.
function kind<T>(
  schema: v.GenericSchema<never, T> | v.GenericSchema<unknown, T>,
  rest: Omit<Kind<T>, "schema">,
): Kind<T> {
  return { schema: schema as v.GenericSchema<unknown, T>, ...rest };
}

/** Any text. */
export const text: Kind<string> = kind(v.string(), { wanted: "a text" });

/** A switch: true or false; as text also 1/0, yes/no, on/off. */
export const toggle: Kind<boolean> = kind(v.boolean(), {
  fromText: (written) =>
    /^(1|true|yes|on)$/i.test(written) ? true : /^(0|false|no|off)$/i.test(written) ? false : written,
  wanted: "true or false",
  isSwitch: true,
});

/** A list of texts; a single text is a list of one. */
export const texts: Kind<readonly string[]> = kind(
  v.pipe(
    v.union([v.string(), v.array(v.string())]),
    v.transform((given): readonly string[] => (typeof given === "string" ? [given] : given)),
  ),
  { wanted: "a list of texts", isList: true },
);

/** Bounds of a number. */
interface NumberBounds {
  readonly minimum: number;
  readonly maximum?: number;
  /** Whether fractions are refused. */
  readonly whole?: boolean;
}

/** A number within bounds. */
export function number({ minimum, maximum, whole = false }: NumberBounds): Kind<number> {
  const range = maximum === undefined ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  const bounded = v.pipe(v.number(), v.finite(), v.minValue(minimum), v.maxValue(maximum ?? Number.MAX_VALUE));
  return kind<number>(whole ? v.pipe(bounded, v.safeInteger()) : bounded, {
    fromText: (written) => (written.trim() === "" ? Number.NaN : Number(written)),
    wanted: `a ${whole ? "whole number" : "number"} ${range}`,
  });
}

/** A number within bounds, or a word that stands for no number. */
export function numberOr<Word extends string>(word: Word, bounds: NumberBounds): Kind<number | Word> {
  const { schema, fromText, wanted } = number(bounds);
  return kind<number | Word>(v.union([schema, v.literal(word)]), {
    fromText: (written) => (written.trim() === word ? word : fromText!(written)),
    wanted: `${wanted}, or ${word}`,
  });
}

const ON = /^(true|yes|on)$/i;
const OFF = /^(false|no|off)$/i;

/** A number within bounds; `on` or true stands for a usual one, `off` or false for none. Its flag may stand alone. */
export function numberOrOff(usual: number, bounds: NumberBounds): Kind<number | undefined> {
  const { schema, fromText, wanted } = number(bounds);
  const switched = v.pipe(
    v.boolean(),
    v.transform((isOn) => (isOn ? usual : undefined)),
  );
  const isWord = (written: string) => ON.test(written) || OFF.test(written);
  return kind<number | undefined>(v.union([schema, switched]), {
    fromText: (written) => (isWord(written.trim()) ? ON.test(written.trim()) : fromText!(written)),
    wanted: `${wanted}, on or off,`,
    isValue: (written) => isWord(written) || !Number.isNaN(fromText!(written)),
  });
}

/** One word of a list. A number is read as its text. */
export function choice(choices: readonly string[]): Kind<string> {
  const words = v.pipe(v.union([v.string(), v.pipe(v.number(), v.transform(String))]), v.picklist(choices));
  return kind(words, { wanted: `one of ${choices.join(", ")}`, choices });
}

/** Some words of a list, each once, separated by commas. */
export function choicesOf<Word extends string>(choices: readonly Word[]): Kind<readonly Word[]> {
  const words = v.pipe(
    v.string(),
    v.transform((written) => written.split(",").map((each) => each.trim())),
    v.array(v.picklist(choices)),
    v.check((each) => new Set(each).size === each.length),
    v.transform((each): readonly Word[] => each),
  );
  return kind(words, { wanted: `one or more of ${choices.join(", ")}` });
}

/** Most noise levels that may be given: as many as steps. */
const MAX_LEVELS = 10_001;

/** Noise levels of flow matching, falling from 1 at most to 0, written 1,0.9,0.5 or as a list; a last 0 may be left out. */
export const noiseLevels: Kind<readonly number[]> = kind(
  v.pipe(
    v.union([
      v.pipe(
        v.string(),
        v.regex(/^[\d\s.,e+-]+$/i),
        v.transform((written) => written.split(",").map((each) => (each.trim() === "" ? Number.NaN : Number(each)))),
      ),
      v.array(v.number()),
    ]),
    v.array(v.pipe(v.number(), v.minValue(0), v.maxValue(1))),
    v.transform((levels) => levels.map(Math.fround)),
    v.transform((levels): readonly number[] => (levels.at(-1) === 0 ? levels : [...levels, 0])),
    v.minLength(2),
    v.maxLength(MAX_LEVELS),
    v.check((levels) => levels.every((level, index) => index === 0 || level < levels[index - 1]!)),
  ),
  { wanted: "falling numbers from 1 to 0, such as 1,0.9,0.5", isJoined: true },
);

const BYTE_UNITS: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
const SIZE_OF_BYTES = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$/i;

/** A number of bytes: 2G, 500M, 1.5GiB, or a plain number in units of `unit` bytes. */
export function bytes({ unit = 1 }: { readonly unit?: number } = {}): Kind<number> {
  const written = v.pipe(
    v.string(),
    v.regex(SIZE_OF_BYTES),
    v.transform((size) => {
      const [, digits, letter = ""] = SIZE_OF_BYTES.exec(size)!;
      const factor = /^[\d.]+$/.test(size.trim()) ? unit : BYTE_UNITS[letter.toLowerCase()]!;
      return Math.floor(Number(digits) * factor);
    }),
  );
  const counted = v.pipe(
    v.number(),
    v.finite(),
    v.minValue(0),
    v.transform((count) => Math.floor(count * unit)),
  );
  return kind(v.union([written, counted]), { wanted: "a size such as 500M or 2G" });
}

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/;

/** A duration in milliseconds: 30s, 5m, 1.5h, or a plain number in seconds; `forever` or a negative number gives Infinity. */
export const duration: Kind<number> = kind(
  v.union([
    v.pipe(
      v.literal("forever"),
      v.transform(() => Number.POSITIVE_INFINITY),
    ),
    v.pipe(
      v.string(),
      v.regex(DURATION),
      v.transform((written) => {
        const [, count, unit] = DURATION.exec(written)!;
        return Number(count) * MILLISECONDS[unit!]!;
      }),
    ),
    v.pipe(
      v.string(),
      v.regex(/^-?\d+(?:\.\d+)?$/),
      v.transform((written) => inMilliseconds(Number(written))),
    ),
    v.pipe(v.number(), v.finite(), v.transform(inMilliseconds)),
  ]),
  { wanted: "a duration such as 30s, 5m or 2h, or forever" },
);

/** Durations in milliseconds, at most ten: 5s,1m,10m. */
export const durations: Kind<readonly number[]> = kind(
  v.pipe(
    v.string(),
    v.transform((written) => written.split(",").map((each) => each.trim())),
    v.maxLength(10),
    v.array(duration.schema as v.GenericSchema<string, number>),
    v.everyItem((each) => Number.isFinite(each)),
    v.transform((each): readonly number[] => each),
  ),
  { wanted: "durations such as 5s,1m,10m" },
);

function inMilliseconds(seconds: number): number {
  return seconds < 0 ? Number.POSITIVE_INFINITY : seconds * 1000;
}

/** Width and height in pixels. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
}

const WIDTH_BY_HEIGHT = /^(\d{1,9})x(\d{1,9})$/;
const side = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Width and height in pixels, written WxH or as an object. */
export const size: Kind<Pixels> = kind(
  v.union([
    v.pipe(
      v.string(),
      v.regex(WIDTH_BY_HEIGHT),
      v.transform((written): Pixels => {
        const [, width, height] = WIDTH_BY_HEIGHT.exec(written)!;
        return { width: Number(width), height: Number(height) };
      }),
    ),
    v.strictObject({ width: side, height: side }),
  ]),
  { wanted: "WIDTHxHEIGHT, such as 1184x880" },
);

/** Where to compute: `auto`, or one or more of `cpu`, `cuda`, `cuda:N`, separated by commas. */
export const deviceName: Kind<string> = kind(
  v.pipe(v.string(), v.regex(/^(?:auto|(?:cpu|cuda(?::\d{1,4})?)(?:,(?:cpu|cuda(?::\d{1,4})?))*)$/)),
  { wanted: "auto, cpu, cuda or cuda:N" },
);

/** GPUs by CUDA's numbers, each once: 0,1. */
export const gpuNumbers: Kind<readonly number[]> = kind(
  v.pipe(
    v.string(),
    v.regex(/^\d{1,4}(?:,\d{1,4})*$/),
    v.transform((written): readonly number[] => written.split(",").map(Number)),
    v.check((numbers) => new Set(numbers).size === numbers.length),
  ),
  { wanted: "numbers such as 0 or 0,1, each once," },
);

/** Placeholder for a seed that will be drawn. */
export const RANDOM_SEED = -1n;

const LARGEST_SEED = 2n ** 64n;

/** A seed: a whole number of up to 64 bits, of which torch's CPU generator takes the low 32; `random` gives RANDOM_SEED. */
export const seed: Kind<bigint> = kind(
  v.union([
    v.pipe(
      v.number(),
      v.safeInteger(),
      v.minValue(0),
      v.transform((digits): bigint => BigInt(digits)),
    ),
    v.pipe(
      v.literal("random"),
      v.transform(() => RANDOM_SEED),
    ),
    v.pipe(
      v.string(),
      v.regex(/^\d{1,20}$/),
      v.transform((digits): bigint => BigInt(digits)),
      v.check((value) => value < LARGEST_SEED),
    ),
  ]),
  { wanted: "a whole number from 0 to 2^64 - 1" },
);
