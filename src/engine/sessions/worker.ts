// The worker thread's side: a direct engine behind messages. create() and run() block this thread, never the main one.
import { parentPort, workerData } from "node:worker_threads";
import { QeditError } from "../../std/errors.js";
import type { Tensor, Tensors } from "../../std/tensor.js";
import type { Device } from "../providers.js";
import { directEngine } from "./direct.js";
import { namedTensors, type Session } from "./engine.js";
import type { Failure, KeptInfo, Request, Response, Results, SentFeeds } from "./protocol.js";

const port = parentPort;
if (!port) throw new Error("internal: the engine's worker was started as a main thread");

const engine = directEngine(workerData as Device);
const sessions = new Map<number, Session>();
const kept = new Map<number, Tensor>();
let lastKept = 0;

port.on("message", async (request: Request) => {
  let response: Response;
  try {
    response = { id: request.id, result: await answer(request) };
  } catch (error) {
    response = { id: request.id, failure: failureOf(error) };
  }
  // Results leave with their memory instead of being copied.
  const results = "result" in response && typeof response.result === "object" ? Object.values(response.result) : [];
  port.postMessage(
    response,
    results.flatMap((each) => ("data" in each ? [each.data.buffer as ArrayBuffer] : [])),
  );
  if (request.kind === "close") port.close();
});

async function answer(request: Request): Promise<Results[Request["kind"]]> {
  switch (request.kind) {
    case "open":
      sessions.set(request.id, await (await engine).open(request.model));
      return request.id;
    case "run":
      return sessionOf(request.session).run(withKept(request.feeds));
    case "run kept":
      return runKept(request);
    case "keep":
      return keep(request.tensors);
    case "take": {
      const tensor = keptOf(request.kept);
      kept.delete(request.kept);
      return { tensor };
    }
    case "release":
      kept.delete(request.kept);
      return undefined;
    case "dispose":
      await sessions.get(request.session)?.dispose();
      sessions.delete(request.session);
      return undefined;
    case "close":
      return (await engine).dispose() as Promise<undefined>;
  }
}

async function runKept({
  session,
  feeds,
  names,
}: Extract<Request, { kind: "run kept" }>): Promise<Results["run kept"]> {
  const outputs = await sessionOf(session).run(withKept(feeds));
  return { ...outputs, ...keep(namedTensors(outputs, names)) };
}

function keep(tensors: Tensors): Record<string, KeptInfo> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      lastKept += 1;
      kept.set(lastKept, tensor);
      return [name, { kept: lastKept, type: tensor.type, shape: tensor.shape }];
    }),
  );
}

function keptOf(number: number): Tensor {
  const tensor = kept.get(number);
  if (!tensor) throw new Error(`internal: no tensor is kept under ${number}`);
  return tensor;
}

function withKept(feeds: SentFeeds): Tensors {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, feed]) => [name, "kept" in feed ? keptOf(feed.kept) : feed]),
  );
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
