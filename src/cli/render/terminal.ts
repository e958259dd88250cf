// A command's interface to the outside: results to stdout, events to stderr and the log, and the abort signal.

import type { SettingsOf } from "../../edit/parameters/parameter.js";
import { spelled } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { ioFailure } from "../../std/files.js";
import { interrupts } from "../interrupt.js";
import { asFlag, type Io } from "../io.js";
import type { outputOptions } from "../settings/options.js";
import { ask } from "./ask.js";
import { errorEvent, isStderrLog, openEventLog } from "./event-log.js";
import type { TerminalPreview } from "./graphics/terminal-preview.js";
import { inFlags } from "./in-flags.js";
import { openRenderer } from "./renderer.js";
import { printableJson, printableLine } from "./shown.js";
import { type Style, styleFor } from "./style.js";

/** The options of every command. */
export type OutputSettings = SettingsOf<typeof outputOptions>;

/** A command's interface to the outside. */
export interface Terminal {
  readonly settings: OutputSettings;
  readonly io: Io;
  readonly emit: Emit;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** Leaves Ctrl-C and SIGTERM to the command, which takes longer to stop. */
  readonly leaveSignals: () => void;
  /** Style of stdout. */
  readonly style: Style;
  /** Prints the result on stdout: with --json the record as one object, else the lines, whose own line breaks are escaped. */
  readonly result: (record: object, lines: readonly string[]) => void;
  /** Prints one record of many on stdout: with --json as one line of JSON, else the line. */
  readonly item: (record: object, line: string) => void;
  /** Writes bytes to stdout, and waits until they are written. Throws QEDIT_E_IO. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** Opens previews on stderr by `auto`, `off` or a protocol; undefined where nothing moves, or no picture would arrive. */
  readonly previews: (choice: string) => Promise<TerminalPreview | undefined>;
  /** Asks a yes-no question. Throws QEDIT_E_USAGE if there is no terminal, with `flag` as hint. */
  readonly confirm: (question: string, flag: string) => Promise<boolean>;
  /** Logs the error as the last event; with --json prints it as `{ "error": … }` if nothing else was printed. */
  readonly fail: (error: unknown) => void;
  /** Closes the renderer and the log. */
  readonly close: () => Promise<void>;
}

/** Opens the terminal of one call. */
export async function openTerminal(settings: OutputSettings, io: Io): Promise<Terminal> {
  const choice = { env: io.env, color: settings.noColor ? false : undefined };
  const { events } = settings;
  // With events on stderr, other lines would break the parsing of NDJSON.
  const level = events !== undefined && isStderrLog(events) ? "silent" : levelOf(settings);
  const renderer = await openRenderer({ level, choice, stderr: io.stderr });
  const lost = ({ message }: Error) =>
    renderer.emit({ kind: "warning", text: `events are not kept any more: ${message}` });
  const log = events === undefined ? undefined : await openEventLog(events, io.stderr, lost);
  const stops = interrupts();
  // At once, not when the computation has ended.
  stops.signal.addEventListener("abort", renderer.close, { once: true });
  const style = styleFor(io.stdout, choice);
  let preview: TerminalPreview | undefined;
  let hasPrinted = false;
  const print = (text: string) => {
    hasPrinted = true;
    io.stdout.write(`${spelled(text, asFlag)}\n`);
  };
  const json = (record: object, indent?: number) => printableJson(JSON.stringify(record, jsonValue, indent));
  return {
    settings,
    io,
    emit(event) {
      const shown = inFlags(event);
      log?.emit(shown);
      renderer.emit(shown);
    },
    signal: stops.signal,
    leaveSignals: () => stops[Symbol.dispose](),
    style,
    result(record, lines) {
      renderer.close();
      const text = settings.json ? json(record, 2) : lines.map((line) => printableLine(line, style)).join("\n");
      if (text !== "") print(text);
    },
    item(record, line) {
      renderer.pause();
      print(settings.json ? json(record) : printableLine(line, style));
    },
    write(bytes) {
      renderer.close();
      return new Promise((resolve, reject) =>
        io.stdout.write(bytes, (error) => (error ? reject(ioFailure("write", "stdout", error)) : resolve())),
      );
    },
    async previews(how) {
      const { draw } = renderer;
      if (how === "off" || draw === undefined || settings.json) return undefined;
      // Without colours there are no pictures either, unless a protocol is named.
      if (how === "auto" && !styleFor(io.stderr, choice).color) return undefined;
      const { openTerminalPreview } = await import("./graphics/terminal-preview.js");
      preview = await openTerminalPreview({ choice: how, io, draw, signal: stops.signal });
      return preview;
    },
    confirm(question, flag) {
      renderer.pause();
      return ask(question, flag, io);
    },
    fail(error) {
      log?.emit(errorEvent(error));
      if (settings.json && !hasPrinted) printJsonError(error, io);
    },
    async close() {
      renderer.close();
      // What the terminal answers must not be left for the shell.
      await preview?.done();
      stops[Symbol.dispose]();
      await log?.close();
    },
  };
}

/** Prints an error on stdout as one JSON object, `{ "error": { code, message, hint, exit } }`. */
export function printJsonError(error: unknown, { stdout }: Pick<Io, "stdout">): void {
  const { kind: _, ...failure } = errorEvent(error);
  stdout.write(`${printableJson(JSON.stringify({ error: failure }, null, 2))}\n`);
}

function levelOf({ quiet, verbose, debug }: OutputSettings): "quiet" | "verbose" | "normal" {
  if (quiet) return "quiet";
  return verbose || debug ? "verbose" : "normal";
}

// Seeds have up to 64 bits, more than JSON numbers hold exactly.
function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
