// The HTTP server's app: what holds for every request, then the routes.
import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { routePath } from "hono/route";
import type { Inference } from "../kserve/inference.js";
import { traceIdOf, validTraceparent } from "../tracing.js";
import { ArrivingBytes, mostArriving } from "./arriving-bytes.js";
import { controlRoutes } from "./control-routes.js";
import type { HttpApp, HttpContext, HttpEnv } from "./http-context.js";
import { errorAnswer, HttpError, methodNotAllowed, textsOf } from "./http-error.js";
import { jobRoutes } from "./job-routes.js";
import { isV2, kserveRoutes, v2ErrorAnswer } from "./kserve-routes.js";
import { modelRoutes } from "./model-routes.js";
import { editRoutes } from "./openai/edit-routes.js";
import { pageRoutes } from "./page-routes.js";
import { referenceRoutes } from "./reference-routes.js";
import { countArriving } from "./request-body.js";
import { sameSite, withKey } from "./security.js";

/** What the app needs besides its context. */
export interface AppOptions {
  readonly inference: Inference;
  readonly key: string | undefined;
  /** Whether it listens on loopback only. */
  readonly isLoopbackOnly: boolean;
  /** Receives each request after its answer, for the log; `error` if it failed. */
  readonly onAnswer: (answer: RequestRecord) => void;
}

/** A request and its answer, for the log. */
export interface RequestRecord {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  /** The pattern of the path, `/v1/jobs/:id`; `*` if none answers it. */
  readonly route: string;
  readonly status: number;
  readonly seconds: number;
  readonly trace_id?: string;
  readonly error?: unknown;
}

/** A client's id of a request, which is passed on. */
const REQUEST_ID = /^[\w.:-]{1,128}$/;

/** The app. */
export function httpApp(context: HttpContext, options: AppOptions): HttpApp {
  const app = new Hono<HttpEnv>();
  app.use(async (c, next) => {
    const start = performance.now();
    const given = c.req.header("x-request-id");
    const id = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    c.set("requestId", id);
    const traceparent = validTraceparent(c.req.header("traceparent"));
    c.set("traceparent", traceparent);
    await next();
    c.header("x-request-id", id);
    c.header("x-content-type-options", "nosniff");
    const { method, path } = c.req;
    const seconds = (performance.now() - start) / 1000;
    const route = routePath(c, -1);
    options.onAnswer({
      id,
      method,
      path,
      route,
      status: c.res.status,
      seconds,
      ...(traceparent && { trace_id: traceIdOf(traceparent)! }),
      ...(c.error && { error: c.error }),
    });
  });
  app.use(countArriving(new ArrivingBytes(mostArriving(context.server.limits))));
  app.use(sameSite(options));
  app.use(withKey(options.key));
  app.route("/", healthRoutes(context));
  // Before the models, whose names may have slashes.
  app.route("/", controlRoutes(context));
  app.route("/", modelRoutes(context));
  app.route("/", jobRoutes(context));
  app.route("/", editRoutes(context));
  app.route("/", referenceRoutes(context));
  app.route("/", kserveRoutes(options.inference));
  app.route("/", pageRoutes());
  app.onError((error, c) => {
    if (isV2(c.req.path)) return v2ErrorAnswer(asHttpError(error));
    const { status, headers, body } = errorAnswer(asHttpError(error), textsOf(c));
    return c.json(body, status as 400, headers);
  });
  app.notFound((c) => {
    const allowed = methodsOf(app, c.req.path);
    const error =
      allowed.length === 0
        ? new HttpError(404, "not_found", "There is nothing under this path", { hint: "See /openapi.json" })
        : methodNotAllowed(c.req.method, allowed);
    const { status, headers, body } = errorAnswer(error);
    return c.json(body, status as 404, headers);
  });
  return app;
}

function healthRoutes({ server, version, metrics }: HttpContext): HttpApp {
  const app = new Hono<HttpEnv>();
  app.get("/health/live", (c) => c.text("live\n"));
  app.get("/health/ready", (c) =>
    server.phase === "ready" ? c.text("ready\n") : c.text(`${server.phase}\n`, 503, { "retry-after": "1" }),
  );
  if (metrics)
    app.get("/metrics", async (c) => c.body(await metrics.text(), 200, { "content-type": metrics.contentType }));
  app.get("/version", (c) => c.json({ name: "qedit", version }));
  return app;
}

// Errors that Hono and its middleware throw.
function asHttpError(error: unknown): unknown {
  return error instanceof HTTPException ? new HttpError(error.status, "invalid_request", error.message) : error;
}

// The methods that a path has.
function methodsOf(app: HttpApp, path: string): string[] {
  const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
  return methods.filter((method) => {
    const [handlers] = app.router.match(method, path);
    return handlers.some(([[, route]]) => route.method === method);
  });
}
