// The engine in a worker thread: the main thread stays free for progress, signals and other requests.
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { QeditError } from "../../std/errors.js";
import type { Device } from "../providers.js";
import type { Engine, Session } from "./engine.js";
import type { Failure, Request, Response, Results } from "./protocol.js";
import { refuseTelemetry } from "./telemetry.js";

interface Pending {
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}

type Body<K extends Request["kind"]> = Omit<Extract<Request, { kind: K }>, "id">;

/** The worker's file beside this one: .js in the package, .ts where src itself runs. */
const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);

/** Starts a worker thread that owns the sessions; dispose ends it. */
export function threadedEngine(device: Device): Engine {
  refuseTelemetry();
  const worker = new Worker(WORKER, { workerData: device });
  const pending = new Map<number, Pending>();
  let lastId = 0;
  let stopped: QeditError | undefined;

  worker.on("message", (response: Response) => {
    const waiting = pending.get(response.id);
    pending.delete(response.id);
    if ("failure" in response) waiting?.reject(errorOf(response.failure));
    else waiting?.resolve(response.result as never);
  });
  const fail = (reason: string, cause?: unknown) => {
    // The first reason is the cause, the others follow from it.
    stopped ??= new QeditError("QEDIT_E_ENGINE", `The engine stopped: ${reason}`, { cause });
    for (const { reject } of pending.values()) reject(stopped);
    pending.clear();
  };
  worker.on("error", (error) => fail(error.message, error));
  worker.on("exit", (code) => fail(`its thread ended with ${code}`));

  const ask = <K extends Request["kind"]>(body: Body<K>): Promise<Results[K]> => {
    if (stopped) return Promise.reject(stopped);
    const id = ++lastId;
    return new Promise<Results[K]>((resolve, reject) => {
      pending.set(id, { resolve: resolve as Pending["resolve"], reject });
      worker.postMessage({ id, ...body });
    });
  };

  return {
    device,
    async open({ graph: _, ...model }) {
      const id = await ask<"open">({ kind: "open", model });
      const session: Session = {
        run: (feeds) => ask<"run">({ kind: "run", session: id, feeds }),
        // An engine that stopped has closed its sessions; a refusal here would hide why it stopped.
        dispose: async () => (stopped ? undefined : ask<"dispose">({ kind: "dispose", session: id })),
      };
      return session;
    },
    async dispose() {
      if (stopped) return;
      const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      await ask<"close">({ kind: "close" });
      await ended;
    },
  };
}

function errorOf({ code, message, hint, stack }: Failure): Error {
  const error = code ? new QeditError(code, message, hint === undefined ? {} : { hint }) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
