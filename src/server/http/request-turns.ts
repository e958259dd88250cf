// Requests of a connection one at a time. A client may send many before it reads an answer (pipelining), and Node hands over all that it has read: each
// would keep its answer in memory until its client has read those before it. https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Requests of a connection that wait before no more are read from it. What Node had read already, 64 KB, may be some more. */
const MOST_WAITING = 100;

/** A listener that hands over a request when the answer before it, on the same connection, was sent; never one whose connection is gone. */
export function inTurn(listener: RequestListener): RequestListener {
  const connections = new WeakMap<Socket, ConnectionTurns>();
  return (request, response) => {
    const { socket } = request;
    const turns = connections.get(socket) ?? new ConnectionTurns(socket, listener);
    connections.set(socket, turns);
    turns.take(request, response);
  };
}

class ConnectionTurns {
  readonly #waiting: (readonly [IncomingMessage, ServerResponse])[] = [];
  #isAnswering = false;
  #isPaused = false;

  constructor(
    private readonly socket: Socket,
    private readonly listener: RequestListener,
  ) {
    // Node reads on whenever its client has read an answer.
    socket.on("resume", () => {
      if (this.#isPaused) socket.pause();
    });
  }

  take(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isAnswering) this.#waiting.push([request, response]);
    else this.#answer(request, response);
    if (this.#waiting.length < MOST_WAITING) return;
    this.#isPaused = true;
    this.socket.pause();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.#isAnswering = true;
    response.once("close", () => this.#next());
    this.listener(request, response);
  }

  #next(): void {
    this.#isAnswering = false;
    // Gone, or closed by the answer, behind which no request is answered.
    if (!this.socket.writable) this.#waiting.length = 0;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#answer(...next);
    if (!this.#isPaused || this.#waiting.length >= MOST_WAITING) return;
    this.#isPaused = false;
    this.socket.resume();
  }
}
