// A local HTTP server that does to each request what the test says: cuts it, ignores its range, refuses it.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll } from "vitest";

/** One request as a test looks at it later. */
export interface Seen {
  readonly path: string;
  readonly range: string | undefined;
}

/** What the server does with the request of that number, from 0. */
export type Behaviour = (response: ServerResponse, request: IncomingMessage, index: number) => void;

/** A server, what it was asked, and what it does. */
export interface TestServer {
  readonly url: string;
  readonly seen: readonly Seen[];
  /** Forgets what it saw, and does this from now on. */
  readonly behave: (behaviour: Behaviour) => void;
}

/** Starts a server that stops when the tests of this file are done. */
export async function testServer(): Promise<TestServer> {
  const seen: Seen[] = [];
  let behaviour: Behaviour = (response) => response.writeHead(404).end();
  const server = createServer((request, response) => {
    seen.push({ path: request.url!, range: request.headers.range });
    behaviour(response, request, seen.length - 1);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    behave(next) {
      seen.length = 0;
      behaviour = next;
    },
  };
}

/** Serves bytes and ranges of them as servers of files do; `most` cuts the connection after so many bytes. */
export function serve(
  bytes: Buffer,
  { etag = '"one"', most = Infinity }: { etag?: string | null; most?: number } = {},
): Behaviour {
  return (response, request) => {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const end = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
    if (start >= end) return void response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
    const body = bytes.subarray(start, end);
    response.writeHead(range ? 206 : 200, {
      ...(etag === null ? {} : { etag }),
      "content-length": body.length,
      ...(range ? { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
    });
    if (body.length <= most) return void response.end(body);
    response.write(body.subarray(0, most), () => setTimeout(() => response.destroy(), 80));
  };
}
