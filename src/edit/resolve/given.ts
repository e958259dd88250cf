// Given values of parameters: their precedence, and their names for errors.

/** A value that was given, by a flag, a settings file, an environment variable or a job. */
export interface Given {
  readonly value: unknown;
  /** Its source for messages: `--steps`, `QEDIT_STEPS`, `"steps"`, the path of a settings file. */
  readonly name: string;
  /** Precedence: the larger strength wins. A preset and a value of equal strength contradict each other. */
  readonly strength: number;
  /** Whether it was given for this edit. A settings file or environment variable may be meant for other edits. */
  readonly isOfCall: boolean;
}

/** Given values by the name of their parameter. */
export type GivenValues = ReadonlyMap<string, Given>;
