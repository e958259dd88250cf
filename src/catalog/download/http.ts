// One request for a range of a file. Redirects are followed here, so that the token is sent to its own origin only; every failure is
// either transient (TryAgain) or final (QeditError).
import type { Dispatcher } from "undici";
import { QeditError } from "../../std/errors.js";
import { Body } from "./body.js";
import type { ByteRange } from "./ranges.js";

const REDIRECTS = [301, 302, 303, 307, 308];
const MOST_REDIRECTS = 10;
/** Statuses of transient failures; 520 to 524 are Cloudflare's. */
const BUSY = [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524];
/** Codes of TLS failures, which are final. */
const UNTRUSTED = /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET)|ERR_TLS|ALTNAME/;
/** Codes of failures to connect. */
const UNREACHABLE = /^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH)$/;
/** Codes in words. */
const MEANING: Readonly<Record<string, string>> = {
  UND_ERR_SOCKET: "the connection was cut",
  ECONNRESET: "the connection was cut",
  UND_ERR_HEADERS_TIMEOUT: "no answer came",
  UND_ERR_BODY_TIMEOUT: "no more bytes came",
  UND_ERR_CONNECT_TIMEOUT: "connecting took too long",
  ENOTFOUND: "the host name was not found",
  EAI_AGAIN: "the host name cannot be looked up",
  ECONNREFUSED: "the connection was refused",
};
/** Longest wait that a server may ask for, seconds; a longer one ends the download. */
const LONGEST_WAIT = 600;

/** Kind of a transient failure: the host was not reached, the connection broke, or the server is overloaded. */
export type Trouble = "unreachable" | "cut" | "busy";

/** A transient failure; `seconds` is the wait that the server asks for, if it does. */
export class TryAgain extends Error {
  readonly seconds: number | undefined;
  readonly trouble: Trouble;

  constructor(
    reason: string,
    { seconds, trouble = "busy", cause }: { seconds?: number | undefined; trouble?: Trouble; cause?: unknown } = {},
  ) {
    super(reason, { cause });
    this.name = "TryAgain";
    this.seconds = seconds;
    this.trouble = trouble;
  }
}

/** A request for a range. */
export interface RangeRequest {
  readonly url: URL;
  readonly token: string | undefined;
  readonly range: ByteRange;
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** The error for a status that no further try can change. */
  readonly refused: (status: number) => QeditError;
}

/** A response with bytes. */
export interface Answer {
  /** Position of the first byte of the body; 0 when the server ignored the range. */
  readonly start: number;
  /** Position after the last byte of the body; less than was asked for when the server serves smaller ranges. */
  readonly end: number;
  /** Whether the body is the range, not the whole file. */
  readonly isRange: boolean;
  /** Bytes of the whole file, undefined when the server does not say. */
  readonly total: number | undefined;
  readonly etag: string | undefined;
  /** The hash that a hub states of the file, in hexadecimal. */
  readonly sha256: string | undefined;
  readonly body: Body;
}

/** The head of a response, and its body, which is still arriving. */
interface Response {
  readonly statusCode: number;
  readonly headers: Headers;
  readonly body: Body;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Requests a range. Throws TryAgain, and QEDIT_E_NETWORK for final failures. */
export async function requestRange({ url, token, range, dispatcher, signal, refused }: RangeRequest): Promise<Answer> {
  const home = url.origin;
  const stated: { etag?: string | undefined; size?: string | undefined } = {};
  let [at, isAtHome] = [url, true];
  for (let hop = 0; hop <= MOST_REDIRECTS; hop += 1) {
    isAtHome &&= at.origin === home;
    const response = await send(at, { token: isAtHome ? token : undefined, range, dispatcher, signal });
    const { statusCode, headers, body } = response;
    stated.etag ??= header(headers, "x-linked-etag");
    stated.size ??= header(headers, "x-linked-size");
    if (statusCode === 200 || statusCode === 206) return answer(response, range, stated);
    body.destroy();
    if (!REDIRECTS.includes(statusCode)) throw refusal(statusCode, { url, headers, isRedirected: at !== url, refused });
    at = redirected(at, header(headers, "location"));
  }
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot download ${url.href}: it is redirected more than ${MOST_REDIRECTS} times`,
  );
}

function send(
  url: URL,
  { token, range, dispatcher, signal }: Omit<RangeRequest, "url" | "refused">,
): Promise<Response> {
  const headers = {
    "user-agent": "qedit",
    // A compressed body would have other ranges.
    "accept-encoding": "identity",
    range: `bytes=${range.start}-${range.end === Infinity ? "" : range.end - 1}`,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  return new Promise((resolve, reject) => {
    const body = new Body();
    const request = {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: "GET",
      headers,
      signal,
    } as const;
    // The factory is called when the head arrives; the promise settles at the end of the body, whose failure the body itself throws.
    const answered = dispatcher.stream(request, ({ statusCode, headers: found }) => {
      resolve({ statusCode, headers: found as Headers, body });
      return body;
    });
    answered.catch((error: unknown) => reject(connectionFailure(url, error, signal)));
  });
}

/** The error for a failed connection: TryAgain, or QEDIT_E_NETWORK when the certificate is not trusted; errors of ours and after an abort as they are. */
export function connectionFailure(url: URL, error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted || error instanceof QeditError || error instanceof TryAgain) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const reason =
    MEANING[code] === undefined
      ? code || (error instanceof Error ? error.message : String(error))
      : `${MEANING[code]} (${code})`;
  // A request that cannot be sent at all: a proxy's address, a header.
  if (code === "UND_ERR_INVALID_ARG")
    return new QeditError("QEDIT_E_NETWORK", `Cannot ask ${url.host}: ${(error as Error).message}`, { cause: error });
  if (!UNTRUSTED.test(code))
    return new TryAgain(`${url.host}: ${reason}`, {
      trouble: UNREACHABLE.test(code) ? "unreachable" : "cut",
      cause: error,
    });
  return new QeditError("QEDIT_E_NETWORK", `Cannot trust ${url.host}: ${reason}`, {
    cause: error,
    hint: "Behind a proxy that reads traffic, name its certificate: export NODE_EXTRA_CA_CERTS=FILE",
  });
}

function answer(
  { statusCode, headers, body }: Response,
  range: ByteRange,
  { etag: linked, size }: { etag?: string | undefined; size?: string | undefined },
): Answer {
  // Servers without version names have the time of the last change.
  const etag = unquoted(linked ?? header(headers, "etag") ?? header(headers, "last-modified"));
  const common = { etag, sha256: linked !== undefined && /^[0-9a-f]{64}$/.test(etag ?? "") ? etag : undefined, body };
  if (statusCode === 200) {
    const length = header(headers, "content-length") ?? size;
    return {
      ...common,
      start: 0,
      end: Infinity,
      isRange: false,
      total: length === undefined ? undefined : Number(length),
    };
  }
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header(headers, "content-range") ?? "");
  if (!match || Number(match[1]) !== range.start || Number(match[2]) < range.start) {
    body.destroy();
    throw new TryAgain(
      `asked for bytes from ${range.start} on, the server sent "${header(headers, "content-range") ?? "no Content-Range"}"`,
    );
  }
  return {
    ...common,
    start: range.start,
    end: Number(match[2]) + 1,
    isRange: true,
    total: match[3] === "*" ? undefined : Number(match[3]),
  };
}

/** The address that a redirect names. Throws QEDIT_E_NETWORK for none, and for one that is less secure than the address before. */
export function redirected(from: URL, location: string | undefined): URL {
  const to = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  const isSafe = to?.protocol === "https:" || (to?.protocol === "http:" && from.protocol === "http:");
  if (to && isSafe) return to;
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot follow ${from.host} to ${location ?? "nowhere"}: a secure address is wanted`,
  );
}

interface Refused extends Pick<RangeRequest, "url" | "refused"> {
  readonly headers: Headers;
  readonly isRedirected: boolean;
}

function refusal(status: number, { url, headers, isRedirected, refused }: Refused): Error {
  if (BUSY.includes(status)) return busy(status, { url, wait: retryAfter(header(headers, "retry-after")) });
  // A signed address may have expired between the redirect and the request.
  if (isRedirected && (status === 401 || status === 403))
    return new TryAgain(`${url.host}: the address it sent to answers ${status}`);
  return refused(status);
}

function busy(status: number, { url, wait }: { url: URL; wait: number | undefined }): Error {
  if (wait === undefined || wait <= LONGEST_WAIT)
    return new TryAgain(`${url.host} answers ${status}`, { seconds: wait });
  return new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot download ${url.href}: ${url.host} answers ${status} and asks to wait ${Math.ceil(wait / 60)} minutes`,
    {
      hint: "Run the same command later: it goes on where it stopped",
    },
  );
}

// Seconds, or a date.
function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

function header(headers: Headers, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function unquoted(etag: string | undefined): string | undefined {
  return etag?.replace(/^W\//, "").replace(/^"|"$/g, "");
}
