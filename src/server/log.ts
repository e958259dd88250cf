// The server's log: lines for people on a terminal, JSON lines elsewhere.
import type { Writable } from "node:stream";
import pino from "pino";

/** Levels, the least important first. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Writes one line: a text for people, and the facts for programs. */
export type Log = (level: LogLevel, text: string, facts?: Readonly<Record<string, unknown>>) => void;

/** Options of a log. */
export interface LogOptions {
  readonly stream: Writable | NodeJS.WritableStream;
  /** Whether people read it. */
  readonly isTerminal: boolean;
  readonly level: LogLevel;
  /** Makes a text harmless for a terminal. */
  readonly printable: (text: string) => string;
}

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** Opens a log. */
export function openLog({ stream, isTerminal, level, printable }: LogOptions): Log {
  if (!isTerminal) {
    const logger = pino(
      { level, base: { name: "qedit" }, timestamp: pino.stdTimeFunctions.isoTime },
      stream as Writable,
    );
    return (each, text, facts = {}) => logger[each](facts, text);
  }
  return (each, text) => {
    if (LEVELS.indexOf(each) < LEVELS.indexOf(level)) return;
    const time = new Date().toTimeString().slice(0, 8);
    const mark = each === "warn" || each === "error" ? `${each === "warn" ? "warning" : each}: ` : "";
    stream.write(`${time} ${mark}${printable(text)}\n`);
  };
}
