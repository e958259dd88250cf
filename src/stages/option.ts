// Options as data: flags, help, defaults and parsing of every stage and server come from these values.

import { parseSize } from "../std/byte-sizes.js";
import { QeditError } from "../std/errors.js";

/** One option: how it is written, what it means, and how its text becomes a value of type T. */
export interface Option<T> {
  /** As commander reads it: `-p, --prompt <text>`. */
  readonly flags: string;
  readonly summary: string;
  /** Value when the option is not given. */
  readonly initial: T;
  /** What help shows for a default that is not one value. */
  readonly initialText?: string;
  /** Claims that nothing can be done without it. */
  readonly mandatory?: boolean;
  /** Claims that only a flag may set it: it speaks of one call, and is in no settings file. */
  readonly isPerCall?: boolean;
  /** Whether it is a parameter of an edit although help lists it under Output, so that a settings file found in a folder may set it. */
  readonly isOfEdit?: boolean;
  /** Heading in help. */
  readonly group: OptionGroup;
  /** The words that are allowed, where it is one of a few. */
  readonly choices?: readonly string[];
  /** The value of one more occurrence; throws QEDIT_E_USAGE. A switch, which takes no text, has none. */
  readonly parse?: (text: string, before: T) => T;
}

/** Headings under which help lists options. */
export type OptionGroup = "Models" | "Prompt" | "Sizes" | "Sampling" | "Output" | "Device" | "Terminal";

/** Options by the name their value has in the settings. */
// biome-ignore lint/suspicious/noExplicitAny: T stands on both sides of parse, so that nothing narrower holds options of different types
export type OptionTable = Readonly<Record<string, Option<any>>>;

/** The values of a table of options. */
export type SettingsOf<Table extends OptionTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Option<infer T> ? T : never;
};

type Described = Pick<Option<unknown>, "flags" | "summary" | "group"> & {
  readonly initialText?: string;
  readonly isPerCall?: boolean;
  readonly isOfEdit?: boolean;
};

/** Any text; undefined when not given. */
export function text(described: Described): Option<string | undefined> {
  return { ...described, initial: undefined, parse: (value) => value };
}

/** A text that must be given. */
export function mandatoryText(described: Described): Option<string> {
  return { ...described, initial: "", mandatory: true, parse: (value) => value };
}

/** A switch, off unless given. */
export function flag(described: Described): Option<boolean> {
  return { ...described, initial: false };
}

/** Any number of texts, in order. */
export function repeated(described: Described): Option<readonly string[]> {
  return { ...described, initial: [], parse: (value, before) => [...before, value] };
}

/** Bounds and default of a number; without `initial` it is undefined until a stage resolves it. */
export interface NumberRule<T> {
  readonly minimum: number;
  readonly maximum?: number;
  readonly whole?: boolean;
  readonly initial: T;
}

/** A number within bounds. */
export function number<T extends number | undefined>(described: Described, rule: NumberRule<T>): Option<number | T> {
  return { ...described, initial: rule.initial, parse: (value) => numberOf(described.flags, value, rule) };
}

function numberOf(flags: string, value: string, { minimum, maximum, whole = false }: NumberRule<unknown>): number {
  const parsed = Number(value);
  const isNumber = value.trim() !== "" && Number.isFinite(parsed) && (!whole || Number.isSafeInteger(parsed));
  if (isNumber && parsed >= minimum && (maximum === undefined || parsed <= maximum)) return parsed;
  const range = maximum === undefined ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  throw refuse(flags, value, `a ${whole ? "whole number" : "number"} ${range}`);
}

/** A number of bytes, written 2G, 500M, 1.5GiB or in bytes alone. */
export function bytes<T extends number | undefined>(described: Described, initial: T): Option<number | T> {
  return {
    ...described,
    initial,
    parse(value) {
      const size = parseSize(value);
      if (size === undefined) throw refuse(described.flags, value, "a size such as 500M or 2G");
      return size;
    },
  };
}

/** One word of a list; the default is one of them, or undefined. */
export function choice<T extends string | undefined>(
  described: Described,
  choices: readonly string[],
  initial: T,
): Option<string | T> {
  return {
    ...described,
    summary: `${described.summary} (${choices.join(", ")})`,
    choices,
    initial,
    parse(value) {
      if (choices.includes(value)) return value;
      throw refuse(described.flags, value, `one of ${choices.join(", ")}`);
    },
  };
}

/** Width and height in pixels, written WxH. */
export function size(described: Described): Option<{ readonly width: number; readonly height: number } | undefined> {
  return {
    ...described,
    initial: undefined,
    parse(value) {
      const match = /^(\d+)x(\d+)$/.exec(value);
      if (!match) throw refuse(described.flags, value, "WIDTHxHEIGHT, such as 1184x880");
      return { width: Number(match[1]), height: Number(match[2]) };
    },
  };
}

/** Stands for a seed that is still to be drawn, in settings that no stage has seen yet. */
export const RANDOM_SEED = -1n;

/** A seed: a whole number of up to 64 bits, of which torch's CPU generator takes the low 32; `random` gives RANDOM_SEED. */
export function seed(described: Described): Option<bigint> {
  return {
    ...described,
    initial: 0n,
    parse(value) {
      if (value === "random") return RANDOM_SEED;
      if (!/^\d+$/.test(value) || BigInt(value) >= 2n ** 64n)
        throw refuse(described.flags, value, "a whole number from 0 to 2^64 - 1");
      return BigInt(value);
    },
  };
}

function refuse(flags: string, value: string, wanted: string): QeditError {
  const name = /--[\w-]+/.exec(flags)![0];
  return new QeditError("QEDIT_E_USAGE", `Cannot use "${value}" for ${name}: ${wanted} is wanted`, {
    hint: "`qedit run --help` explains every option",
  });
}
