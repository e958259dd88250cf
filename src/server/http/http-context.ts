// What the routes of the HTTP server work with.
import type { HttpBindings } from "@hono/node-server";
import type { Hono } from "hono";
import type { EditServer } from "../edit-server.js";
import type { Metrics } from "../metrics.js";
import type { ArrivingBody } from "./arriving-bytes.js";

/** Variables of a request. */
export interface RequestVariables {
  requestId: string;
  /** The header of W3C's trace context, if it is in its form. */
  traceparent: string | undefined;
  arriving: ArrivingBody;
}

/** The types of our Hono app. */
export interface HttpEnv {
  Bindings: HttpBindings & {
    /** Whether the request came over the socket of this user, not over a network. */
    readonly isLocalSocket?: boolean;
  };
  Variables: RequestVariables;
}

/** An app, or a part of one. */
export type HttpApp = Hono<HttpEnv>;

/** What routes need. */
export interface HttpContext {
  readonly server: EditServer;
  /** Version of qedit. */
  readonly version: string;
  /** Whether clients need a key. */
  readonly hasKey: boolean;
  /** Undefined: they are not answered. */
  readonly metrics: Metrics | undefined;
  /** Hosts whose pictures may be fetched by URL. */
  readonly urlHosts: readonly string[];
  /** Stops the server as SIGTERM does. */
  readonly stop: () => void;
}
