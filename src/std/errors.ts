// What a user can meet: one class, and one table of codes with the exit status each ends the process with.
// Everything that must not happen is a plain Error whose message starts with "internal:".

/** Exit status by kind of failure. 130 and 143 are the shells' 128 + SIGINT and 128 + SIGTERM. */
export const EXIT = {
  ok: 0,
  runtime: 1,
  usage: 2,
  model: 3,
  memory: 4,
  output: 5,
  partial: 6,
  interrupted: 130,
  terminated: 143,
} as const;

/** Exit status by code. */
export const CODES = {
  QEDIT_E_USAGE: EXIT.usage,
  QEDIT_E_IMAGE: EXIT.usage,
  QEDIT_E_ARTIFACT: EXIT.usage,
  QEDIT_E_EXISTS: EXIT.usage,
  QEDIT_E_MODEL_MISSING: EXIT.model,
  QEDIT_E_CHECKPOINT: EXIT.model,
  QEDIT_E_LORA: EXIT.model,
  QEDIT_E_DEVICE: EXIT.runtime,
  QEDIT_E_ENGINE: EXIT.runtime,
  QEDIT_E_IO: EXIT.runtime,
  QEDIT_E_NETWORK: EXIT.runtime,
  QEDIT_E_MEMORY: EXIT.memory,
  QEDIT_E_BAD_OUTPUT: EXIT.output,
  QEDIT_E_PARTIAL: EXIT.partial,
  QEDIT_E_INTERRUPTED: EXIT.interrupted,
  QEDIT_E_TERMINATED: EXIT.terminated,
} as const;

/** Stable string code of a failure that a user can meet. */
export type ErrorCode = keyof typeof CODES;

/** A failure with one clear line, a stable code, and, as `hint`, the next thing to type or change. */
export class QeditError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "QeditError";
    this.code = code;
    this.hint = options.hint;
  }

  /** Exit status of the process, see EXIT. */
  get exitCode(): number {
    return CODES[this.code];
  }
}
