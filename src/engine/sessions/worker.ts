// The worker thread's side: a direct engine behind messages. create() and run() block this thread, never the main one.
import { parentPort, workerData } from "node:worker_threads";
import { QeditError } from "../../std/errors.js";
import type { Device } from "../providers.js";
import { directEngine } from "./direct.js";
import type { Session } from "./engine.js";
import type { Failure, Request, Response, Results } from "./protocol.js";

const port = parentPort;
if (!port) throw new Error("internal: the engine's worker was started as a main thread");

const engine = directEngine(workerData as Device);
const sessions = new Map<number, Session>();

port.on("message", async (request: Request) => {
  let response: Response;
  try {
    response = { id: request.id, result: await answer(request) };
  } catch (error) {
    response = { id: request.id, failure: failureOf(error) };
  }
  // Results leave with their memory instead of being copied.
  const tensors = "result" in response && typeof response.result === "object" ? Object.values(response.result) : [];
  port.postMessage(
    response,
    tensors.map((tensor) => tensor.data.buffer as ArrayBuffer),
  );
  if (request.kind === "close") port.close();
});

async function answer(request: Request): Promise<Results[Request["kind"]]> {
  switch (request.kind) {
    case "open":
      sessions.set(request.id, await (await engine).open(request.model));
      return request.id;
    case "run":
      return sessionOf(request.session).run(request.feeds);
    case "dispose":
      await sessions.get(request.session)?.dispose();
      sessions.delete(request.session);
      return undefined;
    case "close":
      return (await engine).dispose() as Promise<undefined>;
  }
}

function sessionOf(id: number): Session {
  const session = sessions.get(id);
  if (!session) throw new Error(`internal: no session ${id}`);
  return session;
}

function failureOf(error: unknown): Failure {
  const isKnown = error instanceof QeditError;
  return {
    code: isKnown ? error.code : undefined,
    message: isKnown ? error.marked.message : error instanceof Error ? error.message : String(error),
    hint: isKnown ? error.marked.hint : undefined,
    stack: error instanceof Error ? error.stack : undefined,
  };
}
