// JSON documents over HTTP: indexes of package registries.
import * as v from "valibot";
import { QeditError } from "../../std/errors.js";
import { connectionFailure } from "./http.js";
import { proxyAgent, SILENCE } from "./proxy.js";

/** How to ask for a document. */
export interface JsonRequest {
  readonly signal: AbortSignal;
  /** Media type that is asked for. */
  readonly accept?: string;
  /** Hint when the document cannot be had. */
  readonly hint: string;
}

/** Reads a JSON document of the form of a schema. Throws QEDIT_E_NETWORK, or the reason of the signal. */
export async function fetchJson<T>(
  url: string,
  schema: v.GenericSchema<unknown, T>,
  { signal, accept = "application/json", hint }: JsonRequest,
): Promise<T> {
  const { fetch } = await import("undici");
  const dispatcher = await proxyAgent({ connections: 1, silence: SILENCE });
  const refuse = (reason: string, cause?: unknown) =>
    new QeditError("QEDIT_E_NETWORK", `Cannot fetch ${url}: ${reason}`, { cause, hint });
  try {
    const response = await fetch(url, {
      dispatcher,
      headers: { accept },
      signal: AbortSignal.any([signal, AbortSignal.timeout(SILENCE)]),
    });
    if (!response.ok) throw refuse(`the server answers ${response.status}`);
    const { success, output, issues } = v.safeParse(schema, await response.json());
    if (success) return output;
    throw refuse(`${v.getDotPath(issues[0]) ?? "the document"} is not of the expected form`);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof QeditError) throw error;
    // fetch wraps the failure of the connection.
    const failure = connectionFailure(
      new URL(url),
      error instanceof TypeError ? (error.cause ?? error) : error,
      signal,
    );
    throw failure instanceof QeditError ? failure : refuse((failure as Error).message, error);
  } finally {
    await dispatcher.destroy();
  }
}
