// The engine in a worker thread: the main thread stays free for progress, signals and other requests.
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
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

/** The worker's file beside this one: .js in the package, .ts where src itself runs. */
const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);

/** Starts the thread that serves the protocol by messages of its port. */
export function startWorker(device: Device): Worker {
  return new Worker(WORKER, { workerData: device });
}
