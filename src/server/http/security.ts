// Who may ask: keys, and on loopback the headers Host and Origin, so that a web page of elsewhere cannot reach a server of this machine
// (DNS rebinding, cross-site requests).
import { isIP } from "node:net";
import type { MiddlewareHandler } from "hono";
import { keyCheck } from "../api-key.js";
import type { HttpEnv } from "./http-context.js";
import { HttpError } from "./http-error.js";

/** Paths that need no key: probes of an orchestrator, and the page, which asks for the key itself. */
const OPEN_PATHS = /^\/(health\/(live|ready)|v2\/health\/(live|ready)|favicon\.\w+|page\/[\w.-]+|)$/;

/** Refuses requests without the key with 401. Without a key all are let through. */
export function withKey(key: string | undefined): MiddlewareHandler<HttpEnv> {
  const check = keyCheck(key);
  return async (c, next) => {
    const isOpen = c.env.isLocalSocket === true || OPEN_PATHS.test(c.req.path);
    const fault = isOpen ? undefined : check(c.req.header("authorization"), c.req.header("x-api-key"));
    if (fault !== undefined)
      throw new HttpError(401, "unauthorized", fault.message, {
        ...(fault.hint !== undefined && { hint: fault.hint }),
        headers: { "www-authenticate": "Bearer" },
      });
    await next();
  };
}

/** Whether an address is reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Refuses requests whose Origin is another site; on loopback also those whose Host is not this machine. */
export function sameSite({ isLoopbackOnly }: { readonly isLoopbackOnly: boolean }): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    // Absent in HTTP/1.0 alone, from later versions Node refuses that: the request is then for the address that it came to, here a loopback one. Web pages
    // gain nothing by it: every browser writes Host, and an Origin without a Host is refused.
    const host = c.req.header("host");
    if (isLoopbackOnly && c.env.isLocalSocket !== true && host !== undefined && !isLoopback(nameOf(host)))
      throw new HttpError(403, "forbidden", "The header Host names another machine", {
        hint: "Use http://127.0.0.1 or http://localhost",
      });
    const origin = c.req.header("origin");
    const isSameSite = host !== undefined && (origin === `http://${host}` || origin === `https://${host}`);
    if (origin !== undefined && !isSameSite)
      throw new HttpError(403, "forbidden", "The request comes from a page of another site");
    await next();
  };
}

// The name or address of a Host header, without port and brackets.
function nameOf(host: string): string {
  const name = host.toLowerCase().replace(/:\d{1,5}$/, "");
  return name === "[::1]" ? "::1" : name;
}
