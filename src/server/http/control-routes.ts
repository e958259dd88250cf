// What the owner of a server asks of it: to open a model, to close what no job uses, to stop.
import type { Context } from "hono";
import { Hono } from "hono";
import { isObject } from "../../std/guards.js";
import { warmUp } from "../warm-up.js";
import type { HttpApp, HttpContext, HttpEnv } from "./http-context.js";
import { HttpError, methodNotAllowed } from "./http-error.js";
import { isLoopback } from "./security.js";

/** The routes of control. */
export function controlRoutes({ server, hasKey, stop }: HttpContext): HttpApp {
  const app = new Hono<HttpEnv>();
  app.post("/v1/models/:name/load", async (c) => {
    const start = performance.now();
    const model = c.req.param("name");
    await warmUp(server, model);
    const seconds = Number(((performance.now() - start) / 1000).toFixed(3));
    return c.json({ model, seconds });
  });
  app.post("/v1/models/unload", async (c) => {
    const before = server.service.sessions();
    await server.service.closeIdle();
    const left = server.service.sessions();
    const bytesOf = (sessions: typeof before) => sessions.reduce((sum, { bytes }) => sum + bytes, 0);
    const closed = Math.max(0, before.length - left.length);
    return c.json({ closed, bytes: Math.max(0, bytesOf(before) - bytesOf(left)), open: left.length });
  });
  // No models of GET /v1/models/{model}.
  for (const path of ["/v1/models/:name/load", "/v1/models/unload"])
    app.all(path, (c) => {
      throw methodNotAllowed(c.req.method, ["POST"]);
    });
  app.post("/v1/stop", (c) => {
    refuseStrangers(c, hasKey);
    // Stopping closes every connection: first the answer is sent.
    c.env.outgoing.once("close", stop);
    return c.json({ phase: "draining", pid: process.pid, ...server.load() }, 202);
  });
  return app;
}

// The key was checked before; without one, any page or user of this machine could reach the address.
function refuseStrangers(c: Context<HttpEnv>, hasKey: boolean): void {
  if (c.env.isLocalSocket === true) return;
  const { incoming } = c.env as { incoming?: unknown };
  const address = isObject(incoming) && isObject(incoming["socket"]) ? incoming["socket"]["remoteAddress"] : undefined;
  const isFromHere = typeof address === "string" && isLoopback(address.replace(/^::ffff:/, ""));
  if (hasKey && isFromHere) return;
  throw new HttpError(403, "forbidden", "A server is stopped by its socket, or on its machine with its API key", {
    hint: "Run `qedit serve stop` as the user who started it, or send it SIGTERM",
  });
}
