// Values as somebody gave them: which of two counts, and what an error calls them.

/** A value that was given. */
export interface Given {
  readonly value: unknown;
  /** As it was written there: `--steps`, `QEDIT_STEPS`, `"steps"`, a path of a settings file. */
  readonly name: string;
  /** Of two values the one of the larger strength counts; of a preset and a value of equal strength, neither. */
  readonly strength: number;
  /** Whether it was said for this very edit; what a settings file or a variable says may be meant for others. */
  readonly isOfCall: boolean;
}

/** Given values by the name of their parameter. */
export type GivenValues = ReadonlyMap<string, Given>;
