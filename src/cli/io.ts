// What a call of the command line reads and writes: the process's own streams, or others, as tests have them.
import type { Readable } from "node:stream";
import type { Spell } from "../std/errors.js";

/** The name of stdout for outputs, and of stdin for inputs. */
export const STREAM = "-";

/** Where a call writes text or bytes. */
export type Output = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/** Where a call reads. */
export type Input = Readable & {
  readonly isTTY?: boolean;
  /** Of a terminal. */
  readonly isRaw?: boolean;
  readonly setRawMode?: (mode: boolean) => unknown;
  readonly unref?: () => unknown;
};

/** The surroundings of a call. */
export interface Io {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

/** The process's own. */
export function processIo(): Io {
  const { stdout, stderr, env } = process;
  return {
    // Node opens stdin and loads what reads it when it is first asked for; most calls never do.
    get stdin() {
      return process.stdin;
    },
    stdout,
    stderr,
    env,
    cwd: process.cwd(),
  };
}

/** Parameters as flags: `--cfg-norm 0.5`. */
export const asFlag: Spell = (name, value) => {
  const flag = `--${name.replaceAll("_", "-")}`;
  return value === undefined ? flag : `${flag} ${value}`;
};
