// Opened graphs by identity, leased to whoever runs them: two jobs that want one graph share its session. A session that nobody uses stays
// open as long as the pool is told to keep it and its budget allows, the least recently used going first; another one may open before
// it is wanted.
import { createHash } from "node:crypto";
import type { Engine, Model, Session } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { weightBytes } from "../plan/graph-cost.js";

/** An engine whose sessions are shared and may outlive their use: open() leases a session, and its dispose() gives the lease back. */
export interface SessionPool extends Engine {
  /** Keeps sessions open after their last lease until the result is called; holders add up. */
  retain(): () => Promise<void>;
  /** Closes the sessions that nobody uses. */
  closeIdle(): Promise<void>;
  /** Begins to open a graph that is wanted later. Whoever opens it next gets that session, or opens it itself where this failed. */
  openAhead(model: Model): OpenedAhead;
}

/** A graph that opens, or is open, before it is wanted. */
export interface OpenedAhead {
  /** Closes it unless somebody took it. */
  close(): Promise<void>;
}

/** What a pool may keep. */
export interface PoolOptions {
  /** Milliseconds that a session stays open without a lease; 0 closes it at once unless the pool is retained. */
  readonly keepAlive?: number;
  /** Bytes of weights that may be open at a time, as far as nobody uses them; undefined is no limit. */
  readonly budget?: number | undefined;
  readonly emit: Emit;
}

/** A session that is open or opening. */
interface Entry {
  readonly key: string;
  readonly network: string;
  readonly bytes: number;
  readonly session: Promise<Session>;
  /** Whether its process has ended. */
  hasEnded: () => boolean;
  leases: number;
  /** The run under way, after which the next one begins: a session runs one at a time. */
  running: Promise<unknown>;
  timer: NodeJS.Timeout | undefined;
}

/** A pool over an engine, which goes with it. */
export function sessionPool(engine: Engine, { keepAlive = 0, budget, emit }: PoolOptions): SessionPool {
  return new Pool(engine, { keepAlive, budget, emit });
}

class Pool implements SessionPool {
  readonly device: Engine["device"];
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #ahead = new Map<string, Entry>();
  #holders = 0;

  constructor(
    private readonly engine: Engine,
    private readonly options: Required<Omit<PoolOptions, "budget">> & Pick<PoolOptions, "budget">,
  ) {
    this.device = engine.device;
  }

  async open(model: Model): Promise<Session> {
    // A group of layers that streams is opened for one pass, and nobody shares it.
    const entry = model.isTransient ? this.#begin(model) : this.#shared(model);
    entry.leases += 1;
    const session = await entry.session.catch((error: unknown) => {
      this.#forget(entry);
      throw error;
    });
    let isLeased = true;
    return {
      run: (feeds) => this.#inTurn(entry, () => this.#withRoom(() => this.#run(entry, () => session.run(feeds)))),
      dispose: async () => {
        if (!isLeased) return;
        isLeased = false;
        entry.leases -= 1;
        if (entry.leases === 0) await this.#rest(entry, model);
      },
    };
  }

  openAhead(model: Model): OpenedAhead {
    const key = keyOf(model);
    if (!this.#ahead.has(key) && !this.#entries.has(key)) this.#ahead.set(key, this.#opening(model));
    const entry = this.#ahead.get(key);
    const refused = (error: Error) => {
      this.#ahead.delete(key);
      const text = `${networkOf(model)} opens when it is wanted, not before: ${error.message}`;
      this.options.emit({ kind: "detail", text });
    };
    entry?.session.catch(refused);
    return { close: () => this.#closeAhead(key) };
  }

  retain(): () => Promise<void> {
    this.#holders += 1;
    let isHeld = true;
    return async () => {
      if (isHeld) this.#holders -= 1;
      isHeld = false;
      if (this.#holders > 0) return;
      if (this.options.keepAlive === 0) await this.closeIdle();
      else for (const entry of this.#idle()) this.#closeLater(entry);
    };
  }

  async closeIdle(): Promise<void> {
    for (const entry of this.#idle()) await this.#close(entry);
  }

  async dispose(): Promise<void> {
    this.#holders = 0;
    for (const key of [...this.#ahead.keys()]) await this.#closeAhead(key);
    await this.closeIdle();
    await this.engine.dispose();
  }

  // The open session of a graph, the one that opens ahead, or a new one.
  #shared(model: Model): Entry {
    const key = keyOf(model);
    if (this.#entries.get(key)?.hasEnded()) this.#drop(this.#entries.get(key)!);
    const entry = this.#entries.get(key) ?? this.#taken(model, key) ?? this.#begin(model);
    clearTimeout(entry.timer);
    // The last used comes last.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  // What did not open ahead is opened now.
  #taken(model: Model, key: string): Entry | undefined {
    const ahead = this.#ahead.get(key);
    this.#ahead.delete(key);
    if (!ahead) return undefined;
    const session = ahead.session.catch(() => this.#begin(model).session);
    return { ...ahead, session, hasEnded: () => ahead.hasEnded() };
  }

  #begin(model: Model): Entry {
    return this.#opening(model, () => this.#withRoom(() => this.#evictFor(model).then(() => this.engine.open(model))));
  }

  #opening(model: Model, open = () => this.engine.open(model)): Entry {
    const start = performance.now();
    const network = networkOf(model);
    const entry: Entry = {
      key: keyOf(model),
      network,
      bytes: bytesOf(model),
      session: open(),
      hasEnded: () => false,
      leases: 0,
      running: Promise.resolve(),
      timer: undefined,
    };
    const opened = (session: Session) => {
      entry.hasEnded = () => session.hasEnded?.() ?? false;
      this.options.emit({ kind: "session", action: "opened", network, seconds: secondsSince(start) });
    };
    // Whoever waits for the session hears of a failure.
    entry.session.then(opened, () => {});
    return entry;
  }

  async #rest(entry: Entry, { isTransient }: Model): Promise<void> {
    const { keepAlive } = this.options;
    const isDead = this.#entries.get(entry.key) !== entry;
    if (isTransient || isDead || (this.#holders === 0 && keepAlive === 0)) return this.#close(entry);
    if (this.#holders === 0) this.#closeLater(entry);
    await this.#evictFor();
  }

  #closeLater(entry: Entry): void {
    clearTimeout(entry.timer);
    const close = () => (entry.leases === 0 ? this.#close(entry) : Promise.resolve());
    entry.timer = setTimeout(() => void close().catch(() => {}), this.options.keepAlive);
    entry.timer.unref();
  }

  #idle(): readonly Entry[] {
    return [...this.#entries.values()].filter(({ leases }) => leases === 0);
  }

  // Sessions of an engine that failed are not given to anybody else. Those that nobody uses may be of the same one.
  async #run<T>(entry: Entry, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const isStopped = error instanceof QeditError && error.code === "QEDIT_E_ENGINE";
      if (isStopped) this.#forget(entry);
      if (isStopped) for (const each of this.#idle()) this.#drop(each);
      throw error;
    }
  }

  #drop(entry: Entry): void {
    this.#close(entry).catch((error: Error) => {
      this.options.emit({ kind: "detail", text: `${entry.network} is not closed: ${error.message}` });
    });
  }

  // Closes the least recently used sessions that nobody uses until all, with one that is about to open, are within the budget.
  async #evictFor(coming?: Model): Promise<void> {
    const { budget } = this.options;
    if (budget === undefined) return;
    const [key, bytes] = coming ? [keyOf(coming), bytesOf(coming)] : [undefined, 0];
    const open = () =>
      [...this.#entries.values()].reduce((sum, each) => sum + (each.key === key ? 0 : each.bytes), bytes);
    for (const entry of this.#idle()) {
      if (open() <= budget) return;
      await this.#close(entry);
    }
  }

  // What is kept or opened for later may be what is lacking now.
  async #withRoom<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const isShort = error instanceof QeditError && error.code === "QEDIT_E_MEMORY";
      if (!isShort || this.#ahead.size + this.#idle().length === 0) throw error;
      for (const key of [...this.#ahead.keys()]) await this.#closeAhead(key);
      await this.closeIdle();
      return work();
    }
  }

  #inTurn<T>(entry: Entry, run: () => Promise<T>): Promise<T> {
    const next = entry.running.then(run, run);
    entry.running = next.catch(() => {});
    return next;
  }

  async #closeAhead(key: string): Promise<void> {
    const entry = this.#ahead.get(key);
    this.#ahead.delete(key);
    if (entry) await entry.session.then(() => this.#close(entry)).catch(() => {});
  }

  async #close(entry: Entry): Promise<void> {
    this.#forget(entry);
    const session = await entry.session;
    const start = performance.now();
    await session.dispose();
    this.options.emit({ kind: "session", action: "closed", network: entry.network, seconds: secondsSince(start) });
  }

  #forget(entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }
}

// The bytes of a model name its weights' files and places in them.
function keyOf({ bytes, optimization }: Model): string {
  return createHash("sha256").update(optimization).update(bytes).digest("hex");
}

// Of weights as they are stored.
function bytesOf({ graph }: Model): number {
  return graph instanceof Graph ? weightBytes(graph) : 0;
}

function networkOf({ name }: Model): string {
  return name.replace(/^the /, "");
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
