// The engine in a child process: when it crashes, or the system's out-of-memory killer ends it, requests fail and this process lives on.

import { spawn } from "node:child_process";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import type { QeditError } from "../../std/errors.js";
import { packageModule } from "../../std/package-files.js";
import type { Device } from "../providers.js";
import { clientEngine, engineStopped, type Send, type ServerEvents } from "./client.js";
import type { Engine } from "./engine.js";
import { messageStream } from "./message-stream.js";
import type { Request, Response } from "./protocol.js";
import { disableTelemetry } from "./telemetry.js";

const CHILD = fileURLToPath(packageModule("engine/sessions/child-process"));

/**
 * Starts a child process that owns the sessions; dispose ends it. When it ends by itself, requests under way fail with QEDIT_E_ENGINE, its
 * sessions run no more, and the next `open` starts another one.
 */
export function childEngine(device: Device, onRestart?: (reason: string) => void): Engine {
  disableTelemetry();
  return clientEngine(device, { start: (events) => startChild(device, events), isRestarted: true, onRestart });
}

/**
 * Bytes at the end of its heap above which glibc gives them back to the system. By itself it raises the threshold with what is freed, and keeps 64 MB of a closed
 * network; no function of Node's sets it while a process runs (docs/performance.md). Other C libraries do not read it.
 */
const TRIM_THRESHOLD = 128 * 1024;

/** Characters of the child's stderr that are kept for an error message. */
const KEPT = 4096;

function startChild(device: Device, { onResponse, onEnd }: ServerEvents): Send {
  const child = spawn(process.execPath, [...process.execArgv, CHILD, JSON.stringify(device)], {
    // Messages go over a pipe of their own: stdout carries qedit's data.
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    env: { MALLOC_TRIM_THRESHOLD_: String(TRIM_THRESHOLD), ...process.env },
    windowsHide: true,
  });
  let written = "";
  // No pipes when the process does not start for want of file descriptors.
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    written = (written + text).slice(-KEPT);
  });
  child.once("error", (error) =>
    onEnd(engineStopped(`its process does not start: ${error.message}`, { cause: error })),
  );
  // Not "exit": what the child wrote last is read by now.
  child.once("close", (code, signal) => onEnd(endOf({ code, signal, written })));
  const pipe = child.stdio?.[3] as Socket | undefined;
  // Ignored: a broken pipe means that the process has ended, and "close" has the reason.
  pipe?.on("error", () => {});
  return pipe ? messageStream<Response, Request>(pipe, onResponse) : () => {};
}

interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of its stderr. */
  readonly written: string;
}

function endOf({ code, signal, written }: ProcessEnd): QeditError {
  if (signal === "SIGKILL")
    return engineStopped("its process was killed by SIGKILL", {
      hint: "Memory may have run out: see the system's log (`journalctl -k`)",
    });
  const ending = signal === null ? `its process ended with ${code}` : `its process was killed by ${signal}`;
  const lines = lastLines(written);
  return engineStopped(lines === "" ? ending : `${ending}: ${lines}`);
}

/** Lines of stderr that a message quotes, and characters of each. */
const QUOTED_LINES = 3;
const QUOTED_LENGTH = 200;

/** What Node writes below an uncaught error. */
const STACK = /^at |^Node\.js v\d/;

function lastLines(written: string): string {
  return stripVTControlCharacters(written)
    .split(/[\r\n]+/)
    .map((line) => line.replace(/[\p{Cc}\s]+/gu, " ").trim())
    .filter((line) => line !== "" && !STACK.test(line))
    .slice(-QUOTED_LINES)
    .map((line) => line.slice(0, QUOTED_LENGTH))
    .join("; ");
}
