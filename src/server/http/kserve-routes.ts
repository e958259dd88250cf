// Inference over HTTP by the KServe V2 protocol, as Triton's clients call it: JSON, with the bytes of tensors behind it.
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip, inflate } from "node:zlib";
import { type Context, Hono } from "hono";
import { readParameters } from "../../kserve/infer-request.js";
import { JSON_LENGTH, readInferRequest, writeInferAnswer } from "../../kserve/json-codec.js";
import { PROTO_FILE } from "../../kserve/proto-file.js";
import { V2Error } from "../../kserve/v2-error.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { isObject } from "../../std/guards.js";
import { qeditVersion } from "../../std/version.js";
import { EXTENSIONS, type Inference } from "../kserve/inference.js";
import { configOf, metadataOf } from "../kserve/model-specs.js";
import { failureOfV2 } from "../kserve/v2-failure.js";
import type { HttpApp, HttpEnv } from "./http-context.js";
import { HttpError, methodNotAllowed } from "./http-error.js";
import { readBytes } from "./request-body.js";

/** Whether a path is answered in this protocol's way, errors too. */
export function isV2(path: string): boolean {
  return path === "/v2" || path.startsWith("/v2/");
}

/** The answer to an error under /v2. */
export function v2ErrorAnswer(error: unknown): Response {
  const { http, text, headers } = failureOfV2(error);
  return Response.json({ error: text }, { status: http, headers });
}

/** Parts of Triton's interface that are not done here: memory shared with clients, settings of its own. */
const NOT_IMPLEMENTED =
  /^\/v2\/(systemsharedmemory|cudasharedmemory|trace|logging)(\/|$)|^\/v2\/models\/[^/]+\/(trace|generate|generate_stream)(\/|$)/;

type Handler = (c: Context<HttpEnv>) => Response | Promise<Response>;

/** The routes, with the methods of each. */
function handlersOf(inference: Inference): Readonly<Record<string, Readonly<Record<string, Handler>>>> {
  const specOf = (c: Context<HttpEnv>) => inference.spec(c.req.param("model")!, c.req.param("version"));
  const ofModel = (path: string, methods: Readonly<Record<string, Handler>>) => ({
    [`/v2/models/:model${path}`]: methods,
    [`/v2/models/:model/versions/:version${path}`]: methods,
  });
  const ready = (c: Context<HttpEnv>) => c.body(null, inference.isReady ? 200 : 503, { "content-type": "text/plain" });
  return {
    "/v2": { GET: (c) => c.json({ name: "qedit", version: qeditVersion(), extensions: EXTENSIONS }) },
    "/v2/health/live": { GET: (c) => c.body(null, 200, { "content-type": "text/plain" }) },
    "/v2/health/ready": { GET: ready },
    "/v2/models/stats": { GET: async (c) => c.json({ model_stats: await inference.statistics(undefined) }) },
    "/v2/repository/index": {
      POST: async (c) =>
        c.json(await inference.index({ isReadyOnly: (await readObject(c, inference))["ready"] === true })),
    },
    "/v2/repository/models/:model/load": {
      POST: async (c) => {
        await inference.load(c.req.param("model")!, await repositoryParameters(c, inference));
        return c.body(null, 200);
      },
    },
    "/v2/repository/models/:model/unload": {
      POST: async (c) => {
        await inference.unload(c.req.param("model")!, await repositoryParameters(c, inference));
        return c.body(null, 200);
      },
    },
    ...ofModel("", { GET: async (c) => c.json(metadataOf(await specOf(c))) }),
    ...ofModel("/ready", {
      async GET(c) {
        const isReady = await inference.isModelReady(c.req.param("model")!, c.req.param("version"));
        return c.body(null, isReady ? 200 : 503, { "content-type": "text/plain" });
      },
    }),
    ...ofModel("/config", { GET: async (c) => c.json(configOf(await specOf(c))) }),
    ...ofModel("/stats", {
      GET: async (c) =>
        c.json({ model_stats: await inference.statistics(c.req.param("model")!, c.req.param("version")) }),
    }),
    ...ofModel("/infer", { POST: (c) => infer(c, inference) }),
    "/kserve.proto": { GET: async (c) => c.text(await readFile(PROTO_FILE, "utf8")) },
  };
}

/** The routes of inference. */
export function kserveRoutes(inference: Inference): HttpApp {
  const app = new Hono<HttpEnv>();
  for (const [path, methods] of Object.entries(handlersOf(inference))) {
    for (const [method, handler] of Object.entries(methods)) app.on(method, path, handler);
    const allow = Object.keys(methods).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
    app.all(path, (c) => {
      throw methodNotAllowed(c.req.method, allow);
    });
  }
  app.all("/v2/*", (c) => {
    if (NOT_IMPLEMENTED.test(c.req.path)) throw new V2Error(501, "This extension is not implemented here");
    throw new V2Error(404, "There is nothing under this path: see GET /v2");
  });
  app.onError(v2ErrorAnswer);
  return app;
}

async function infer(c: Context<HttpEnv>, inference: Inference): Promise<Response> {
  const target = { name: c.req.param("model")!, version: c.req.param("version") };
  const { request, answer } = await inference.infer(
    target,
    async ({ rawInput }) => {
      const bytes = await readWhole(c, inference);
      // Its tensors count in the queue.
      c.var.arriving.release();
      return readInferRequest({ bytes, jsonLength: c.req.header(JSON_LENGTH), rawInput });
    },
    { signal: c.req.raw.signal },
  );
  const { body, jsonLength } = writeInferAnswer(answer, request);
  return new Response(body as Uint8Array<ArrayBuffer>, {
    headers:
      jsonLength === undefined
        ? { "content-type": "application/json" }
        : { "content-type": "application/octet-stream", [JSON_LENGTH]: String(jsonLength) },
  });
}

const DECOMPRESSIONS = { gzip: promisify(gunzip), deflate: promisify(inflate) };

// Clients may compress requests; what comes out of one is held to the limit of a body as well.
async function readWhole(c: Context<HttpEnv>, { server: { limits } }: Inference): Promise<Uint8Array> {
  const encoding = c.req.header("content-encoding")?.toLowerCase();
  if (encoding !== "gzip" && encoding !== "deflate") return readBytes(c, limits);
  const bytes = await readBytes(c, limits, { isCompressed: true });
  return DECOMPRESSIONS[encoding](bytes, { maxOutputLength: limits.body }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ERR_BUFFER_TOO_LARGE")
      throw new HttpError(413, "payload_too_large", `The request is longer than ${decimalSize(limits.body)}`);
    throw new V2Error(400, `The request is not compressed as ${encoding}`);
  });
}

// Clients send an empty body where they have nothing to say.
async function readObject(c: Context<HttpEnv>, { server }: Inference): Promise<Readonly<Record<string, unknown>>> {
  const text = (await readBytes(c, server.limits)).toString("utf8");
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    throw new V2Error(400, "The request is not JSON");
  }
  throw new V2Error(400, "The request is JSON, but no object");
}

async function repositoryParameters(c: Context<HttpEnv>, inference: Inference) {
  return readParameters((await readObject(c, inference))["parameters"], "the request");
}
