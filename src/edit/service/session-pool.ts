// A pool of sessions by graph. Jobs lease sessions; jobs with the same graph share one. An idle session stays open while the pool is retained, for
// `keepAlive` milliseconds, and within the budget: the least recently used is evicted first. A session can be prefetched.
import type { Engine, Model, Session } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { weightBytes } from "../plan/graph-cost.js";
import { type SessionKey, sessionKeys } from "./unchanged-weights.js";

/** An engine whose sessions are shared: open() leases a session, and its dispose() returns the lease. */
export interface SessionPool extends Engine {
  /** Keeps idle sessions open until the returned function is called. Calls are counted. */
  retain(): () => Promise<void>;
  /** Closes idle sessions; of some networks, by their ids, or all. */
  closeIdle(networks?: readonly string[]): Promise<void>;
  /** Starts to open a graph that is needed later. The next open() of it gets that session, or opens a new one if this failed. */
  openAhead(model: Model): OpenedAhead;
  /** The open sessions, the least recently used first. */
  sessions(): readonly OpenSession[];
  /** From now on sessions stay open so many milliseconds when they are idle, as `keepAlive` of the options. */
  keepFor(milliseconds: number): void;
}

/** An open session of a pool. */
export interface OpenSession {
  /** Id of its network: `vae-encoder`. */
  readonly network: string;
  /** For messages: `the transformer, blocks 0 to 3`. */
  readonly name: string;
  /** Bytes of its weights as stored. */
  readonly bytes: number;
  /** Whether a job uses it. */
  readonly isInUse: boolean;
}

/** A prefetched session, open or opening. */
export interface OpenedAhead {
  /** Closes it unless it has been leased. */
  close(): Promise<void>;
}

/** Limits of a pool. */
export interface PoolOptions {
  /** Milliseconds that an idle session stays open; 0 closes it at once unless the pool is retained, Infinity never. */
  readonly keepAlive?: number;
  /** Bytes of weights above which idle sessions are evicted; undefined is no limit. */
  readonly budget?: number | undefined;
  readonly emit: Emit;
}

/** A session that is open or opening. */
interface Entry extends SessionKey {
  readonly name: string;
  readonly network: string;
  readonly bytes: number;
  readonly session: Promise<Session>;
  /** Whether its process has ended. */
  hasEnded: () => boolean;
  leases: number;
  /** The last queued run: a session executes one run at a time. */
  running: Promise<unknown>;
  timer: NodeJS.Timeout | undefined;
}

/** A pool over an engine; disposing the pool disposes the engine. */
export function sessionPool(engine: Engine, { keepAlive = 0, budget, emit }: PoolOptions): SessionPool {
  return new Pool(engine, { keepAlive, budget, emit });
}

class Pool implements SessionPool {
  readonly device: Engine["device"];
  /** In order of use, least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #ahead = new Map<string, Entry>();
  readonly #keyOf = sessionKeys();
  #holders = 0;
  #keepAlive: number;

  constructor(
    private readonly engine: Engine,
    private readonly options: Required<Omit<PoolOptions, "budget">> & Pick<PoolOptions, "budget">,
  ) {
    this.device = engine.device;
    this.#keepAlive = options.keepAlive;
  }

  keepFor(milliseconds: number): void {
    this.#keepAlive = milliseconds;
  }

  async open(model: Model): Promise<Session> {
    // A streamed group of layers is opened for one pass and not shared.
    const entry = model.isTransient ? this.#openNow(model) : this.#shared(model);
    entry.leases += 1;
    const session = await entry.session.catch((error: unknown) => {
      this.#remove(entry);
      throw error;
    });
    let isLeased = true;
    const queued = <T>(work: () => Promise<T>) =>
      this.#queued(entry, () => this.#retryAfterClosing(() => this.#run(entry, work)));
    return {
      run: (feeds) => queued(() => session.run(feeds)),
      ...(session.runKept && { runKept: (feeds, names) => queued(() => session.runKept!(feeds, names)) }),
      ...(session.keep && { keep: (tensors) => queued(() => session.keep!(tensors)) }),
      dispose: async () => {
        if (!isLeased) return;
        isLeased = false;
        entry.leases -= 1;
        if (entry.leases === 0) await this.#release(entry, model);
      },
    };
  }

  openAhead(model: Model): OpenedAhead {
    const { key } = this.#keyOf(model);
    if (!this.#ahead.has(key) && !this.#entries.has(key)) this.#ahead.set(key, this.#opening(model));
    const entry = this.#ahead.get(key);
    const refused = (error: Error) => {
      this.#ahead.delete(key);
      const text = `${model.name} opens when it is wanted, not before: ${error.message}`;
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
      if (this.#keepAlive === 0) await this.closeIdle();
      else for (const entry of this.#idle()) this.#closeLater(entry);
    };
  }

  async closeIdle(networks?: readonly string[]): Promise<void> {
    // Looked up again after each one: another job may have leased the next meanwhile.
    const next = () => this.#idle().find(({ network }) => networks?.includes(network) ?? true);
    for (let entry = next(); entry; entry = next()) await this.#close(entry);
  }

  sessions(): readonly OpenSession[] {
    return [...this.#entries.values()].map(({ network, name, bytes, leases }) => ({
      ...{ network, name, bytes },
      isInUse: leases > 0,
    }));
  }

  async dispose(): Promise<void> {
    this.#holders = 0;
    for (const key of [...this.#ahead.keys()]) await this.#closeAhead(key);
    await this.closeIdle();
    await this.engine.dispose();
  }

  // The open session of a graph, its prefetched session, or a new one.
  #shared(model: Model): Entry {
    const { key } = this.#keyOf(model);
    if (this.#entries.get(key)?.hasEnded()) this.#drop(this.#entries.get(key)!);
    const entry = this.#entries.get(key) ?? this.#takeAhead(model, key) ?? this.#openNow(model);
    clearTimeout(entry.timer);
    // Move to the end: most recently used.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  // The prefetched session of a graph; if prefetching failed, opens it now.
  #takeAhead(model: Model, key: string): Entry | undefined {
    const ahead = this.#ahead.get(key);
    this.#ahead.delete(key);
    if (!ahead) return undefined;
    const session = ahead.session.catch(() => this.#openNow(model).session);
    return { ...ahead, session, hasEnded: () => ahead.hasEnded() };
  }

  #openNow(model: Model): Entry {
    return this.#opening(model, () =>
      this.#retryAfterClosing(() => this.#evictFor(model).then(() => this.engine.open(model))),
    );
  }

  #opening(model: Model, open = () => this.engine.open(model)): Entry {
    const start = performance.now();
    const { name, network } = model;
    const entry: Entry = {
      ...this.#keyOf(model),
      name,
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
      this.options.emit({ kind: "session", action: "opened", network, name, seconds: secondsSince(start) });
    };
    // A failure is reported to the caller that awaits the session.
    entry.session.then(opened, () => {});
    return entry;
  }

  async #release(entry: Entry, { isTransient }: Model): Promise<void> {
    const keepAlive = this.#keepAlive;
    const isDead = this.#entries.get(entry.key) !== entry;
    if (isTransient || isDead || (this.#holders === 0 && keepAlive === 0)) return this.#close(entry);
    if (this.#holders === 0) this.#closeLater(entry);
    await this.#evictFor();
  }

  #closeLater(entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#keepAlive === Number.POSITIVE_INFINITY) return;
    const close = () => (entry.leases === 0 ? this.#close(entry) : Promise.resolve());
    entry.timer = setTimeout(() => void close().catch(() => {}), this.#keepAlive);
    entry.timer.unref();
  }

  #idle(): readonly Entry[] {
    return [...this.#entries.values()].filter(({ leases }) => leases === 0);
  }

  // After an engine failure, drops the session, and idle sessions too, because they may belong to the same engine.
  async #run<T>(entry: Entry, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const hasEngineFailed = error instanceof QeditError && error.code === "QEDIT_E_ENGINE";
      if (hasEngineFailed) this.#remove(entry);
      if (hasEngineFailed) for (const each of this.#idle()) this.#drop(each);
      throw error;
    }
  }

  #drop(entry: Entry): void {
    this.#close(entry).catch((error: Error) => {
      this.options.emit({ kind: "detail", text: `${entry.name} is not closed: ${error.message}` });
    });
  }

  // Closes idle sessions of the next one's graph whose files have changed since, then others, least recently used first, until all open sessions
  // and the next one are within the budget.
  async #evictFor(next?: Model): Promise<void> {
    const wanted = next && this.#keyOf(next);
    const isOutdated = ({ graph, key }: Entry) => graph === wanted?.graph && key !== wanted.key;
    const outdated = () => this.#idle().find(isOutdated);
    for (let entry = outdated(); entry; entry = outdated()) await this.#close(entry);
    const { budget } = this.options;
    if (budget === undefined) return;
    const bytes = next ? bytesOf(next) : 0;
    const open = () =>
      [...this.#entries.values()].reduce((sum, each) => sum + (each.key === wanted?.key ? 0 : each.bytes), bytes);
    for (let [entry] = this.#idle(); entry && open() > budget; [entry] = this.#idle()) await this.#close(entry);
  }

  // If memory runs out, closes prefetched and idle sessions and retries once.
  async #retryAfterClosing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const isOutOfMemory = error instanceof QeditError && error.code === "QEDIT_E_MEMORY";
      if (!isOutOfMemory || this.#ahead.size + this.#idle().length === 0) throw error;
      for (const key of [...this.#ahead.keys()]) await this.#closeAhead(key);
      await this.closeIdle();
      return work();
    }
  }

  #queued<T>(entry: Entry, run: () => Promise<T>): Promise<T> {
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
    this.#remove(entry);
    const session = await entry.session;
    const start = performance.now();
    await session.dispose();
    const { network, name } = entry;
    this.options.emit({ kind: "session", action: "closed", network, name, seconds: secondsSince(start) });
  }

  #remove(entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }
}

// Bytes of weights as stored.
function bytesOf({ graph }: Model): number {
  return graph instanceof Graph ? weightBytes(graph) : 0;
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
