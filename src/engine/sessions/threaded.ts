// The engine in a worker thread: the main thread stays free for progress, signals and other requests.

import { Worker } from "node:worker_threads";
import { packageModule } from "../../std/package-files.js";
import type { Device } from "../providers.js";
import { clientEngine, engineStopped, type Send, type ServerEvents } from "./client.js";
import type { Engine } from "./engine.js";
import { disableTelemetry } from "./telemetry.js";

/** Starts a worker thread that owns the sessions; dispose ends it. */
export function threadedEngine(device: Device): Engine {
  disableTelemetry();
  return clientEngine(device, { start: (events) => startThread(device, events), isRestarted: false });
}

function startThread(device: Device, { onResponse, onEnd }: ServerEvents): Send {
  const worker = startWorker(device);
  let uncaught: Error | undefined;
  worker.on("message", onResponse);
  worker.on("error", (error) => {
    uncaught = error;
  });
  worker.on("exit", (code) =>
    onEnd(engineStopped(uncaught?.message ?? `its thread ended with ${code}`, { cause: uncaught })),
  );
  return (request, moved) => worker.postMessage(request, moved);
}

const WORKER = packageModule("engine/sessions/worker");

/** Starts the thread that serves the protocol by messages of its port. */
export function startWorker(device: Device): Worker {
  return new Worker(WORKER, { workerData: device });
}
