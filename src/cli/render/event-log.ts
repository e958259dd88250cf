// Writes events as NDJSON to stderr or a file, for other programs.

import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { ERRORS } from "../../edit/error-table.js";
import { failureOf } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { ioFailure } from "../../std/files.js";
import type { Output } from "../io.js";
import { failureInFlags } from "./in-flags.js";
import { printableJson } from "./shown.js";

/** A log of events. */
export interface EventLog {
  readonly isStderr: boolean;
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

/** Opens a log on stderr (`stderr` or `-`) or in a file, which is truncated. Throws QEDIT_E_IO. */
export async function openEventLog(where: string, stderr: Output): Promise<EventLog> {
  const isStderr = where === "stderr" || where === "-";
  const stream: NodeJS.WritableStream = isStderr ? stderr : await openFile(where);
  const progress = new Progress();
  return {
    isStderr,
    emit: (event) => void stream.write(`${printableJson(JSON.stringify(progress.complete(event)))}\n`),
    async close() {
      if (isStderr || !(stream as WriteStream).writable) return;
      stream.end();
      await once(stream, "close");
    },
  };
}

async function openFile(path: string): Promise<WriteStream> {
  const stream = createWriteStream(path);
  try {
    await once(stream, "open");
  } catch (error) {
    throw ioFailure("write", path, error);
  }
  // Ignore: a full disk must not stop the edit.
  stream.on("error", () => {});
  return stream;
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
