// An engine whose sessions live behind the protocol: requests go out under ids, and responses settle them.
import { QeditError } from "../../std/errors.js";
import type { Device } from "../providers.js";
import type { Engine, Session } from "./engine.js";
import type { Failure, Request, Response, Results } from "./protocol.js";

/** Sends a request to a running server. */
export type Send = (request: Request) => void;

/** Called by a transport on events of the server. */
export interface ServerEvents {
  readonly onResponse: (response: Response) => void;
  /** The thread or process has ended, for this reason. Requests without a response fail with it; later calls are ignored. */
  readonly onEnd: (reason: QeditError) => void;
}

/** Where sessions live. */
export interface Transport {
  /** Starts a thread or process that serves the protocol. */
  readonly start: (events: ServerEvents) => Send;
  /** Whether `open` starts another one after it ended by itself. */
  readonly isRestarted: boolean;
  /** Called before that, with the reason of its end. */
  readonly onRestart?: ((reason: string) => void) | undefined;
}

/** Starts a server and opens sessions in it; dispose ends it. */
export function clientEngine(device: Device, { start, isRestarted, onRestart }: Transport): Engine {
  let client = new Client(start);
  let isDisposed = false;
  return {
    device,
    async open({ graph: _, ...model }) {
      if (client.ended && isRestarted && !isDisposed) {
        onRestart?.(client.ended.message);
        client = new Client(start);
      }
      const owner = client;
      const id = await owner.request<"open">({ kind: "open", model });
      const session: Session = {
        run: (feeds) => owner.request<"run">({ kind: "run", session: id, feeds }),
        // A server that ended has closed its sessions; an error here would hide why it ended.
        hasEnded: () => owner.ended !== undefined,
        dispose: async () => (owner.ended ? undefined : owner.request<"dispose">({ kind: "dispose", session: id })),
      };
      return session;
    },
    async dispose() {
      isDisposed = true;
      await client.close();
    },
  };
}

/** The error of requests to a server that has ended. */
export function engineStopped(reason: string, options: { hint?: string; cause?: unknown } = {}): QeditError {
  return new QeditError("QEDIT_E_ENGINE", `The engine stopped: ${reason}`, options);
}

type Body<K extends Request["kind"]> = Omit<Extract<Request, { kind: K }>, "id">;

interface Pending {
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}

/** The requests to one server, from its start to its end. */
class Client {
  readonly #pending = new Map<number, Pending>();
  readonly #send: Send;
  readonly #end: Promise<void>;
  #lastId = 0;
  #ended: QeditError | undefined;
  #closed: Promise<void> | undefined;

  constructor(start: Transport["start"]) {
    let resolveEnd = () => {};
    this.#end = new Promise((resolve) => {
      resolveEnd = resolve;
    });
    this.#send = start({
      onResponse: (response) => this.#settle(response),
      onEnd: (reason) => {
        this.#ended ??= reason;
        for (const { reject } of this.#pending.values()) reject(this.#ended);
        this.#pending.clear();
        resolveEnd();
      },
    });
  }

  /** Why the server has ended; undefined while it serves. */
  get ended(): QeditError | undefined {
    return this.#ended;
  }

  request<K extends Request["kind"]>(body: Body<K>): Promise<Results[K]> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    return new Promise<Results[K]>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject });
      this.#send({ id, ...body } as Request);
    });
  }

  /** Closes all sessions and resolves when the server has ended; that it ended before it answered is no error. */
  close(): Promise<void> {
    this.#closed ??= this.request<"close">({ kind: "close" })
      .catch((error: unknown) => {
        if (error !== this.#ended) throw error;
      })
      .then(() => this.#end);
    return this.#closed;
  }

  #settle(response: Response): void {
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if ("failure" in response) pending?.reject(errorOf(response.failure));
    else pending?.resolve(response.result as never);
  }
}

function errorOf({ code, message, hint, stack }: Failure): Error {
  const error = code ? new QeditError(code, message, hint === undefined ? {} : { hint }) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
