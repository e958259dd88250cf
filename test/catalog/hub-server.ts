// A local server that stands for the model hub, and misbehaves on request: real HTTP over a real socket.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What a server does differently from a good one; all undefined is a good one. */
export interface Manners {
  /** Connections to cut in the middle of the body, one after another. */
  cuts?: number;
  /** Bytes of a body before it is cut; random when undefined. */
  cutAfter?: number;
  ignoresRanges?: boolean;
  /** Added to the length that Content-Range and Content-Length state. */
  lengthLie?: number;
  /** Sends this much beyond the range, within a Content-Length that says so. */
  surplus?: number;
  /** Statuses for the first requests, each with its headers. */
  first?: { status: number; headers?: Record<string, string> }[];
  /** Status for every request. */
  always?: number;
  /** Sends every request for a file to this server. */
  redirectTo?: string;
  /** States the hash of the file as the hub does. */
  linkedEtag?: string;
  etag?: string;
  /** Bytes a second of each connection. */
  speed?: number;
  /** Gives at most this much of a range. */
  largestRange?: number;
  /** Answers with another range than was asked for. */
  wrongRange?: boolean;
  /** Sends headers, and then nothing. */
  isSilent?: boolean;
}

/** A request as it came in. */
export interface Seen {
  readonly url: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** A running server. */
export interface HubServer extends AsyncDisposable {
  readonly endpoint: string;
  readonly manners: Manners;
  readonly seen: Seen[];
  readonly cutsDone: () => number;
}

/** Bytes that look random and are the same every time. */
export function fileBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Hexadecimal SHA-256. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Serves files by their path on the hub, `OWNER/NAME/resolve/REVISION/PATH`; host is 127.0.0.1 unless given. */
export async function hubServer(
  files: Readonly<Record<string, Uint8Array>>,
  manners: Manners = {},
  host = "127.0.0.1",
): Promise<HubServer> {
  const seen: Seen[] = [];
  let cuts = 0;
  let asked = 0;
  const server: Server = createServer((request, response) => {
    const { url = "", headers } = request;
    seen.push({ url, range: headers.range, authorization: headers.authorization });
    const early = manners.first?.[asked++];
    if (early) return void response.writeHead(early.status, early.headers ?? {}).end("no");
    if (manners.always !== undefined) return void response.writeHead(manners.always).end("no");
    const bytes = files[decodeURIComponent(url.slice(1))];
    if (bytes === undefined) return void response.writeHead(404).end("not found");
    if (manners.redirectTo !== undefined) {
      const linked =
        manners.linkedEtag === undefined
          ? {}
          : { "x-linked-etag": `"${manners.linkedEtag}"`, "x-linked-size": String(bytes.length) };
      return void response.writeHead(302, { location: new URL(url, manners.redirectTo).href, ...linked }).end();
    }
    serve(request, response, { bytes, manners, takesCut: () => cuts < (manners.cuts ?? 0) && ++cuts > 0 });
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://${host}:${port}`,
    manners,
    seen,
    cutsDone: () => cuts,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Serving {
  readonly bytes: Uint8Array;
  readonly manners: Manners;
  readonly takesCut: () => boolean;
}

function serve({ headers }: IncomingMessage, response: ServerResponse, { bytes, manners, takesCut }: Serving): void {
  const match = manners.ignoresRanges ? null : /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "");
  let start = match ? Number(match[1]) : 0;
  const end = match
    ? Math.min(Number(match[2]) + 1, bytes.length, start + (manners.largestRange ?? Infinity))
    : bytes.length;
  if (manners.wrongRange && start > 0) start -= 1;
  const stated = bytes.length + (manners.lengthLie ?? 0);
  const body = Buffer.concat([bytes.subarray(start, end), Buffer.alloc(manners.surplus ?? 0, 7)]);
  const etag = manners.etag === undefined ? {} : { etag: `"${manners.etag}"` };
  const linked = manners.linkedEtag === undefined ? {} : { "x-linked-etag": `"${manners.linkedEtag}"` };
  response.writeHead(match ? 206 : 200, {
    ...etag,
    ...linked,
    "content-length": String(match ? body.length : stated),
    ...(match ? { "content-range": `bytes ${start}-${end - 1}/${stated}` } : {}),
  });
  response.flushHeaders();
  if (manners.isSilent) return;
  // The one byte that asks what there is comes through, so that a cut hits real work.
  const isCut = body.length > 1 && takesCut();
  const until = isCut ? (manners.cutAfter ?? Math.floor(Math.random() * body.length)) : body.length;
  send(response, body.subarray(0, until), manners.speed, () => (isCut ? response.socket?.destroy() : response.end()));
}

function send(response: ServerResponse, body: Buffer, speed: number | undefined, done: () => void): void {
  if (speed === undefined) return void response.write(body, () => done());
  const piece = Math.max(1, Math.floor(speed / 50));
  let at = 0;
  const timer = setInterval(() => {
    if (response.destroyed) return clearInterval(timer);
    response.write(body.subarray(at, at + piece));
    at += piece;
    if (at >= body.length) {
      clearInterval(timer);
      done();
    }
  }, 20);
}
