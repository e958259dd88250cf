// Connections as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, in either case.
import type { EnvHttpProxyAgent } from "undici";
import { QeditError } from "../../std/errors.js";

/** A connection that sends nothing for so long is given up, milliseconds. */
export const SILENCE = 30_000;

/** Limits of an agent. */
export interface AgentLimits {
  /** Connections to one host. */
  readonly connections: number;
  /** Milliseconds without a byte after which a connection fails. */
  readonly silence: number;
}

/** An agent for requests, to be destroyed after use. Throws QEDIT_E_USAGE when a proxy variable is no address. */
export async function proxyAgent({ connections, silence }: AgentLimits): Promise<EnvHttpProxyAgent> {
  // Loaded when something is fetched: most commands fetch nothing, and it takes a tenth of a second.
  const { EnvHttpProxyAgent: Agent } = await import("undici");
  try {
    return new Agent({
      connections,
      headersTimeout: silence,
      bodyTimeout: silence,
      connect: { timeout: silence },
    });
  } catch (cause) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      "Cannot use the proxy: HTTP_PROXY or HTTPS_PROXY is no address such as http://proxy:8080",
      { cause, hint: "unset HTTPS_PROXY HTTP_PROXY https_proxy http_proxy" },
    );
  }
}
