// Listens for HTTP, on an address and on the socket of this user. Slow clients time out.
import { once } from "node:events";
import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createConnection, type ListenOptions } from "node:net";
import { dirname } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { param, QeditError } from "../../std/errors.js";
import { ioFailure, makeFolders, PRIVATE } from "../../std/files.js";
import { type Address, written } from "../addresses.js";
import type { HttpApp } from "./http-context.js";
import { inTurn } from "./request-turns.js";

/** Milliseconds for the headers of a request, and for all of it. */
const HEADERS_TIMEOUT = 20_000;
const REQUEST_TIMEOUT = 300_000;
/** Milliseconds that a connection stays open without a request. */
const IDLE_TIMEOUT = 65_000;
const MOST_CONNECTIONS = 1024;
/** Bytes of the headers of a request. */
const MOST_HEADERS = 32 * 1024;

/** Bytes of a socket's path that systems take (sun_path, without its final zero); Node cuts off the rest. https://man7.org/linux/man-pages/man7/unix.7.html */
const LONGEST_SOCKET = process.platform === "linux" ? 107 : 103;

/** Stands in the URL of a request without the header Host, which HTTP/1.0 does not need (RFC 9112, 3.2): probes send none. No route reads it. */
const NO_HOST = "localhost";

/** Streams that stay open while a job waits for the next start. */
const JOB_EVENTS = /^\/v1\/jobs\/[^/?]*\/events(\?|$)/;

/** A door that is open. */
export interface Listener {
  /** Where it listens, with the port that it was given. */
  readonly address: Address;
  /** Answers that are being made or sent; streams that end only with a job are left out. */
  readonly underWay: () => number;
  /** Takes no more connections, and ends those without a request. */
  readonly stop: () => void;
  /** Ends all connections. */
  readonly close: () => Promise<void>;
}

/** Listens on an address; port 0 takes a free one. Throws QEDIT_E_IO. */
export async function listenOn(app: HttpApp, { host, port }: Address): Promise<Listener> {
  const counted = serverOf(app, { isLocalSocket: false });
  await listening(counted.server, { host, port }, written({ host, port }));
  const found = counted.server.address();
  return listenerOf(counted, { host, port: typeof found === "object" && found !== null ? found.port : port });
}

/** Listens on a socket that only this user may use; undefined if another server answers there. Throws QEDIT_E_USAGE for a path that is no socket's, QEDIT_E_IO. */
export async function listenOnSocket(app: HttpApp, path: string): Promise<Listener | undefined> {
  const refused = (reason: string) =>
    new QeditError("QEDIT_E_USAGE", `Cannot listen on ${path}: ${reason}`, {
      hint: `Name another path, or none: ${param("socket", "none")}`,
      parameter: "socket",
    });
  const length = Buffer.byteLength(path);
  if (length > LONGEST_SOCKET)
    throw refused(`the path of a socket has at most ${LONGEST_SOCKET} bytes, this one ${length}`);
  const found = await lstat(path).catch(() => undefined);
  if (found && !found.isSocket()) throw refused("something that is no socket is there");
  if (found && (await answers(path))) return undefined;
  await makeFolders(dirname(path), { isPrivate: true }).catch((error: unknown) => {
    throw ioFailure("write", path, error);
  });
  // Left by a server that was killed.
  if (found) await rm(path, { force: true });
  const counted = serverOf(app, { isLocalSocket: true });
  const mask = process.umask(0o177);
  try {
    await listening(counted.server, { path }, path);
  } finally {
    process.umask(mask);
  }
  const listener = listenerOf(counted, { host: path, port: 0 });
  try {
    await chmod(path, PRIVATE.file);
  } catch (error) {
    await listener.close();
    throw error;
  }
  return listener;
}

/** Whether a server answers on a socket. */
async function answers(path: string): Promise<boolean> {
  const connection = createConnection({ path });
  try {
    await once(connection, "connect");
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}

/** A server that does not listen yet, and the count of its answers under way. */
interface Counted {
  readonly server: Server;
  readonly underWay: Listener["underWay"];
}

function serverOf(app: HttpApp, { isLocalSocket }: { isLocalSocket: boolean }): Counted {
  let underWay = 0;
  const answer = getRequestListener(
    (request, bindings) => app.fetch(request, { ...(bindings as object), isLocalSocket } as never),
    { overrideGlobalObjects: false, hostname: NO_HOST },
  );
  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      keepAliveTimeout: IDLE_TIMEOUT,
      connectionsCheckingInterval: 5_000,
      maxHeaderSize: MOST_HEADERS,
    },
    inTurn((request, response) => {
      if (!JOB_EVENTS.test(request.url ?? "")) {
        underWay += 1;
        response.once("close", () => (underWay -= 1));
      }
      void answer(request, response);
    }),
  );
  server.maxConnections = MOST_CONNECTIONS;
  return { server, underWay: () => underWay };
}

async function listening(server: Server, options: ListenOptions, where: string): Promise<void> {
  server.listen(options);
  try {
    await once(server, "listening");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason =
      code === "EADDRINUSE"
        ? "another program listens there"
        : code === "EACCES"
          ? "permission denied"
          : (error as Error).message;
    throw new QeditError("QEDIT_E_IO", `Cannot listen on ${where}: ${reason}`, {
      hint: "Stop that program, or choose another port",
      cause: error,
    });
  }
}

function listenerOf({ server, underWay }: Counted, address: Address): Listener {
  return {
    address,
    underWay,
    stop() {
      server.close();
      server.closeIdleConnections();
    },
    async close() {
      const closed = server.listening ? once(server, "close") : undefined;
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
