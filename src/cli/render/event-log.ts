// Writes events as NDJSON to stderr or a file, for other programs.

import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { ERRORS } from "../../edit/error-table.js";
import { failureOf, QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { ioFailure } from "../../std/files.js";
import type { Output } from "../io.js";
import { failureInFlags } from "./in-flags.js";
import { printableJson } from "./shown.js";

/** A log of events. */
export interface EventLog {
  readonly emit: (event: ProgressEvent | ErrorEvent) => void;
  readonly close: () => Promise<void>;
}

/** The last event of a failed call. */
export interface ErrorEvent {
  readonly kind: "error";
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly exit: number;
}

/** Converts an error to the last event of a call. */
export function errorEvent(error: unknown): ErrorEvent {
  const failure = failureInFlags(failureOf(error));
  return { kind: "error", ...failure, exit: ERRORS[failure.code].exit };
}

/** Whether a log goes to stderr, not to a file: `stderr` or `-`. */
export function isStderrLog(where: string): boolean {
  return where === "stderr" || where === "-";
}

/**
 * Opens a log on stderr or in a file. A log of an earlier call is replaced; throws QEDIT_E_EXISTS for any other file that is there, and QEDIT_E_IO.
 * `lost` is called where the file cannot be written any more, such as on a full disk: that must not stop the edit.
 */
export async function openEventLog(
  where: string,
  stderr: Output,
  lost: (error: QeditError) => void,
): Promise<EventLog> {
  const isStderr = isStderrLog(where);
  const stream: NodeJS.WritableStream = isStderr ? stderr : await openFile(where, lost);
  const progress = new Progress();
  return {
    emit: (event) => void stream.write(`${printableJson(JSON.stringify(progress.complete(event)))}\n`),
    async close() {
      if (isStderr || !(stream as WriteStream).writable) return;
      stream.end();
      await once(stream, "close");
    },
  };
}

async function openFile(path: string, lost: (error: QeditError) => void): Promise<WriteStream> {
  // Such as /dev/stderr: what the file that the shell has opened holds is left.
  const isOpened = resolve(path).startsWith("/dev/");
  if (!isOpened && !(await canReplace(path)))
    throw new QeditError(
      "QEDIT_E_EXISTS",
      `Cannot write events to ${path}: it is there already, and no log of events`,
      {
        hint: "Choose another name: only a log of events is replaced",
      },
    );
  const stream = createWriteStream(path, { flags: isOpened ? "a" : "w" });
  try {
    await once(stream, "open");
  } catch (error) {
    throw ioFailure("write", path, error);
  }
  // Whoever read them may have seen enough.
  stream.on("error", (error: NodeJS.ErrnoException) => error.code !== "EPIPE" && lost(ioFailure("write", path, error)));
  return stream;
}

// Whether nothing is lost by a log in place of what is there: nothing, no file, or the log of an earlier call, whose last line may be cut off.
async function canReplace(path: string): Promise<boolean> {
  if (!(await stat(path).catch(() => undefined))?.isFile()) return true;
  try {
    let isCut = false;
    await using file = await open(path);
    for await (const line of file.readLines()) {
      if (isCut || !line.startsWith('{"event":"')) return false;
      const event = parsedLine(line);
      if (event && !(typeof event["time"] === "string" && typeof event["elapsed"] === "number")) return false;
      isCut = event === undefined;
    }
    return true;
  } catch (error) {
    throw ioFailure("read", path, error);
  }
}

function parsedLine(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(line) as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}

// Adds time, elapsed seconds, current stage, seconds left and memory to events.
class Progress {
  private stage: string | undefined;
  private readonly started = performance.now();

  complete(event: ProgressEvent | ErrorEvent): object {
    if (event.kind === "start") this.stage = event.stage;
    const { kind, ...rest } = event;
    const left = event.kind === "step" ? { eta: round(event.seconds * (event.total - event.step)) } : {};
    const at = {
      event: kind,
      time: new Date().toISOString(),
      elapsed: round((performance.now() - this.started) / 1000),
      stage: this.stage,
    };
    if (event.kind === "end") this.stage = undefined;
    return { ...at, ...rest, ...left, memory: process.memoryUsage.rss() };
  }
}

function round(seconds: number): number {
  return Number(seconds.toFixed(3));
}
