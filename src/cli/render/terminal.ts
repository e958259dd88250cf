// What a command talks to: data to stdout, everything else to stderr, events to whoever watches, and a signal that says stop.

import type { SettingsOf } from "../../stages/option.js";
import { EXIT, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { ioFailure } from "../../std/files.js";
import { interruptSignal } from "../interrupt.js";
import type { outputOptions } from "../settings/options.js";
import { ask } from "./ask.js";
import { openEventLog } from "./event-log.js";
import { openRenderer } from "./renderer.js";
import { type Style, styleFor } from "./style.js";

/** The options of every command. */
export type OutputSettings = SettingsOf<typeof outputOptions>;

/** A command's way to the outside. */
export interface Terminal {
  readonly settings: OutputSettings;
  readonly emit: Emit;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** Paints for what goes to stdout. */
  readonly style: Style;
  /** Prints the result on stdout: with --json the record as one object, else the lines. */
  readonly result: (record: object, lines: readonly string[]) => void;
  /** Prints one record of many on stdout: with --json as one line of JSON, else the line. */
  readonly item: (record: object, line: string) => void;
  /** Writes bytes to stdout, and waits until they are taken. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** Asks a yes-no question; false where nobody can answer. Throws QEDIT_E_USAGE there, with the flag that answers as hint. */
  readonly confirm: (question: string, flag: string) => Promise<boolean>;
  /** Logs how the call failed, as its last event. */
  readonly fail: (error: unknown) => void;
  /** Ends what moves on the screen and what is written to a log. */
  readonly close: () => Promise<void>;
}

/** Opens the terminal of one call. */
export async function openTerminal(settings: OutputSettings): Promise<Terminal> {
  const choice = { env: process.env, color: settings.noColor ? false : undefined };
  const log = settings.events === undefined ? undefined : await openEventLog(settings.events);
  // Events on stderr are for a program: lines for people would break its parsing.
  const level = log?.isStderr
    ? "silent"
    : settings.quiet
      ? "quiet"
      : settings.verbose || settings.debug
        ? "verbose"
        : "normal";
  const renderer = await openRenderer({ level, choice });
  return {
    settings,
    emit(event) {
      log?.emit(event);
      renderer.emit(event);
    },
    signal: interruptSignal(),
    style: styleFor(process.stdout, choice),
    result(record, lines) {
      renderer.close();
      const text = settings.json ? JSON.stringify(record, jsonValue, 2) : lines.join("\n");
      if (text !== "") process.stdout.write(`${text}\n`);
    },
    item(record, line) {
      renderer.pause();
      process.stdout.write(`${settings.json ? JSON.stringify(record, jsonValue) : line}\n`);
    },
    write(bytes) {
      renderer.close();
      return new Promise((resolve, reject) =>
        process.stdout.write(bytes, (error) => (error ? reject(ioFailure("write", "stdout", error)) : resolve())),
      );
    },
    confirm(question, flag) {
      renderer.pause();
      return ask(question, flag);
    },
    fail(error) {
      const known = error instanceof QeditError ? error : undefined;
      const message = error instanceof Error ? error.message : String(error);
      log?.emit({
        kind: "error",
        code: known?.code ?? "QEDIT_E_INTERNAL",
        message,
        hint: known?.hint,
        exit: known?.exitCode ?? EXIT.runtime,
      });
    },
    async close() {
      renderer.close();
      await log?.close();
    },
  };
}

// Seeds have up to 64 bits, which JSON numbers do not hold.
function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
