// What a user can meet: one class with a stable code. No door's words are in it: a parameter is named by `param`, and each door spells it in
// its own way (`--steps 4`, `"steps": 4`); exit statuses, HTTP statuses and the like are in edit/error-table.ts.
// Everything that must not happen is a plain Error whose message starts with "internal:".

/** The codes, in the order in which they are listed. */
export const ERROR_CODES = [
  "QEDIT_E_USAGE",
  "QEDIT_E_IMAGE",
  "QEDIT_E_ARTIFACT",
  "QEDIT_E_EXISTS",
  "QEDIT_E_MODEL_MISSING",
  "QEDIT_E_CHECKPOINT",
  "QEDIT_E_LORA",
  "QEDIT_E_DEVICE",
  "QEDIT_E_ENGINE",
  "QEDIT_E_IO",
  "QEDIT_E_NETWORK",
  "QEDIT_E_MEMORY",
  "QEDIT_E_BAD_OUTPUT",
  "QEDIT_E_PARTIAL",
  "QEDIT_E_BUSY",
  "QEDIT_E_INTERRUPTED",
  "QEDIT_E_TERMINATED",
  "QEDIT_E_INTERNAL",
] as const;

/** Stable string code of a failure. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** How a door writes a parameter, given its snake_case name and the value that goes with it, if any. */
export type Spell = (name: string, value: string | undefined) => string;

/** What stands around a parameter in a text, and between its name and value: characters that no text of a user holds (private use). */
const [OPEN, MIDDLE, CLOSE] = ["\ue000", "\ue001", "\ue002"];
const MARKED = /\ue000(\w+)(?:\ue001([^\ue002]*))?\ue002/g;

/** Names a parameter in a message or a hint: `Add ${param("cfg", 2.5)}`. */
export function param(name: string, value?: string | number): string {
  return `${OPEN}${name}${value === undefined ? "" : `${MIDDLE}${value}`}${CLOSE}`;
}

/** A text with its parameters as a door writes them. */
export function spelled(text: string, spell: Spell): string {
  return text.replace(MARKED, (_, name: string, value: string | undefined) => spell(name, value));
}

/** Parameters by their names, as in `message` and `hint` of an error: `cfg 2.5`. */
const plain: Spell = (name, value) => (value === undefined ? name : `${name} ${value}`);

/** What an error has besides its code and message. */
export interface ErrorOptions {
  /** The next thing to type or change. */
  readonly hint?: string | undefined;
  /** The parameter that it is about, by its snake_case name. */
  readonly parameter?: string;
  readonly cause?: unknown;
}

/** A failure with one clear line, a stable code, and, as `hint`, the next thing to type or change. */
export class QeditError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly parameter: string | undefined;
  /** The message and the hint with their parameters marked, for `spelled`. */
  readonly marked: { readonly message: string; readonly hint: string | undefined };

  constructor(code: ErrorCode, message: string, { hint, parameter, cause }: ErrorOptions = {}) {
    // What parsers and systems say may have several lines.
    const line = message.replace(/\s*[\r\n]+\s*/g, " ");
    super(spelled(line, plain), cause === undefined ? undefined : { cause });
    this.name = "QeditError";
    this.code = code;
    this.hint = hint === undefined ? undefined : spelled(hint, plain);
    this.parameter = parameter;
    this.marked = { message: line, hint };
  }
}

/** Any failure as plain data, as events, result lines and protocols carry it; parameters are marked, for `spelled`. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}

/** An error as plain data; what is no QeditError was not foreseen, and is a bug. */
export function failureOf(error: unknown): Failure {
  if (error instanceof QeditError) return { code: error.code, ...error.marked };
  return { code: "QEDIT_E_INTERNAL", message: error instanceof Error ? error.message : String(error), hint: undefined };
}
