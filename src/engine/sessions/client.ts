// An engine whose sessions live behind the protocol: requests go out under ids, and responses settle them.
import { QeditError } from "../../std/errors.js";
import { elementCount, type Tensor, type Tensors } from "../../std/tensor.js";
import type { Device } from "../providers.js";
import type { Engine, Feeds, KeptTensor, Session } from "./engine.js";
import type { Failure, KeptInfo, Request, Response, Results, SentFeeds } from "./protocol.js";

/** Sends a request to a running server. Memory in `moved` may go to the server, where it can; it is copied otherwise. */
export type Send = (request: Request, moved: readonly ArrayBuffer[]) => void;

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
        run: async (feeds) => owner.request<"run">({ kind: "run", session: id, feeds: await sentTo(owner, feeds) }),
        runKept: async (feeds, names) => {
          const sent = await sentTo(owner, feeds);
          return givenBy(owner, await owner.request<"run kept">({ kind: "run kept", session: id, feeds: sent, names }));
        },
        keep: async (tensors) => keptBy(owner, await owner.request<"keep">({ kind: "keep", tensors })),
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
      const request = { id, ...body } as Request;
      this.#send(request, "feeds" in request ? movedBy(request.feeds) : []);
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

/** A tensor that a server keeps. It moves to the server whose session takes it. */
class ServerTensor implements KeptTensor {
  readonly type: KeptInfo["type"];
  readonly shape: readonly number[];
  #place: { readonly owner: Client; readonly number: number } | undefined;

  constructor(owner: Client, { type, shape, kept: number }: KeptInfo) {
    this.type = type;
    this.shape = shape;
    this.#place = { owner, number };
  }

  /** Its number at a server, to which it moves if it is elsewhere. */
  async at(wanted: Client): Promise<number> {
    if (!this.#place) throw new Error("internal: a kept tensor was disposed");
    const { owner, number } = this.#place;
    if (owner === wanted) return number;
    const taken: Tensors = await owner.request<"take">({ kind: "take", kept: number });
    const { tensor } = await wanted.request<"keep">({ kind: "keep", tensors: taken });
    this.#place = { owner: wanted, number: tensor!.kept };
    return tensor!.kept;
  }

  async dispose(): Promise<void> {
    const place = this.#place;
    this.#place = undefined;
    // A server that ended keeps nothing.
    if (place && !place.owner.ended) await place.owner.request<"release">({ kind: "release", kept: place.number });
  }
}

function keptBy(owner: Client, kept: Readonly<Record<string, KeptInfo>>): Record<string, KeptTensor> {
  return Object.fromEntries(Object.entries(kept).map(([name, info]) => [name, new ServerTensor(owner, info)]));
}

function givenBy(owner: Client, outputs: Results["run kept"]): Feeds {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, each]) => [name, "kept" in each ? new ServerTensor(owner, each) : each]),
  );
}

function movedBy(feeds: SentFeeds): ArrayBuffer[] {
  return Object.values(feeds).flatMap((feed) =>
    "isGiven" in feed && feed.isGiven ? [feed.data.buffer as ArrayBuffer] : [],
  );
}

async function sentTo(owner: Client, feeds: Feeds): Promise<SentFeeds> {
  const sent: Record<string, Tensor | { readonly kept: number }> = {};
  for (const [name, feed] of Object.entries(feeds)) {
    if ("data" in feed) sent[name] = whole(name, feed);
    else if (feed instanceof ServerTensor) sent[name] = { kept: await feed.at(owner) };
    else throw new Error(`internal: "${name}" is kept by another engine`);
  }
  return sent;
}

// A message with memory that has gone is lost without a word.
function whole(name: string, tensor: Tensor): Tensor {
  if (tensor.data.length !== elementCount(tensor.shape)) throw new Error(`internal: "${name}" was given away before`);
  return tensor;
}

function errorOf({ code, message, hint, stack }: Failure): Error {
  const error = code ? new QeditError(code, message, hint === undefined ? {} : { hint }) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
