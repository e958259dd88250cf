// The patterns of modules' names in PEFT's configurations: regular expressions of Python that fit the end of a name, behind a dot
// (get_pattern_key, https://github.com/huggingface/peft/blob/v0.21.2/src/peft/utils/other.py).

/** One character of a name, or one of some. */
const CHARACTER = String.raw`(?:\\[.dw]|\[\^?[\w.-]+\]|[\w.-])`;
/** Some of these, or one of several texts; repeated are single characters only, so that a match takes no exponential time. */
const READABLE = new RegExp(String.raw`^\^?(?:${CHARACTER}[*+?]?|\((?:\?:)?(?:${CHARACTER}|\|)+\)\??)*\$?$`);
/** Each of them may try every length of a name. */
const MOST_REPETITIONS = 3;
const LONGEST_PATTERN = 1000;

/** More than any model has modules, and for those that are tried at every length of a name some seconds in all. */
const MOST_PATTERNS = 4096;
const MOST_REPEATING = 64;

/** Whether patterns are so many that trying them on every module of a model takes long. */
export function areTooMany(patterns: readonly string[]): boolean {
  return patterns.length > MOST_PATTERNS || patterns.filter((each) => /[*+]/.test(each)).length > MOST_REPEATING;
}

/** Tells whether the name of a module fits a pattern; undefined for an expression of a form that is not read. */
export function namePattern(pattern: string): ((module: string) => boolean) | undefined {
  const repetitions = pattern.match(/[*+]/g)?.length ?? 0;
  if (pattern.length > LONGEST_PATTERN || repetitions > MOST_REPETITIONS || !READABLE.test(pattern)) return undefined;
  const expression = compiled(`^(?:.*\\.)?(?:${pattern})$`);
  return expression && ((module) => expression.test(module));
}

// A range the wrong way round is no expression.
function compiled(source: string): RegExp | undefined {
  try {
    return new RegExp(source);
  } catch {
    return undefined;
  }
}
