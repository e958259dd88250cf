// An engine that counts its sessions, keeps them open between uses while it is told to (many edits, one load of each network), and opens
// one before it is wanted.
import { createHash } from "node:crypto";
import type { Engine, Model, Session } from "../engine/sessions/engine.js";
import { QeditError } from "../std/errors.js";
import type { Emit } from "../std/events.js";

/** An engine whose sessions may outlive their use. */
export interface KeptEngine extends Engine {
  /** From now on a session stays open after its use, for the next one that opens the same graph. */
  hold(): void;
  /** Closes what is open and not in use, and keeps nothing any more. */
  release(): Promise<void>;
  /** Begins to open a graph that is wanted later. Whoever opens it next gets that session, or opens it itself where this failed. */
  openAhead(model: Model): OpenedAhead;
}

/** A graph that opens, or is open, before it is wanted. */
export interface OpenedAhead {
  /** Closes it unless somebody took it. */
  close(): Promise<void>;
}

interface OpenSession {
  readonly session: Session;
  readonly network: string;
  readonly key: string;
}

/** Decorates an engine, which goes with it; every session that is opened or closed is told as an event. */
export function keptEngine(engine: Engine, emit: Emit): KeptEngine {
  const { open, close } = toldSessions(engine, emit);
  const ahead = aheadSessions({ open, close, emit });
  const idle: OpenSession[] = [];
  let holds = false;

  const closeIdle = async () => {
    for (const each of idle.splice(0)) await close(each);
  };
  // What is kept or opened for later may be what is lacking now.
  const withRoom = async <T>(work: () => Promise<T>): Promise<T> =>
    work().catch(async (error: unknown) => {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_MEMORY") || idle.length + ahead.count() === 0)
        throw error;
      await ahead.closeAll();
      await closeIdle();
      return work();
    });
  const kept = (key: string): OpenSession | undefined => {
    const at = idle.findIndex((each) => each.key === key);
    return at < 0 ? undefined : idle.splice(at, 1)[0];
  };
  return {
    device: engine.device,
    async open(model) {
      const key = keyOf(model);
      const opened = kept(key) ?? (await ahead.take(key)) ?? (await withRoom(() => open(model, key)));
      return {
        run: (feeds) => withRoom(() => opened.session.run(feeds)),
        async dispose() {
          if (holds && !model.isTransient) idle.push(opened);
          else await close(opened);
        },
      };
    },
    openAhead: ahead.open,
    hold() {
      holds = true;
    },
    async release() {
      holds = false;
      await closeIdle();
    },
    async dispose() {
      holds = false;
      await ahead.closeAll();
      await closeIdle();
      await engine.dispose();
    },
  };
}

interface ToldSessions {
  readonly open: (model: Model, key: string) => Promise<OpenSession>;
  readonly close: (opened: OpenSession) => Promise<void>;
}

function toldSessions(engine: Engine, emit: Emit): ToldSessions {
  return {
    async open(model, key) {
      const start = performance.now();
      const session = await engine.open(model);
      const network = networkOf(model);
      emit({ kind: "session", action: "opened", network, seconds: secondsSince(start) });
      return { session, network, key };
    },
    async close({ session, network }) {
      const start = performance.now();
      await session.dispose();
      emit({ kind: "session", action: "closed", network, seconds: secondsSince(start) });
    },
  };
}

interface AheadSessions {
  readonly open: (model: Model) => OpenedAhead;
  /** The session of a graph that opens ahead; undefined when there is none, or it did not open. */
  readonly take: (key: string) => Promise<OpenSession | undefined>;
  readonly count: () => number;
  readonly closeAll: () => Promise<void>;
}

function aheadSessions({ open, close, emit }: ToldSessions & { readonly emit: Emit }): AheadSessions {
  const opening = new Map<string, Promise<OpenSession | undefined>>();
  const take = async (key: string) => {
    const opened = opening.get(key);
    opening.delete(key);
    return opened;
  };
  const closeOne = async (key: string) => {
    const opened = await take(key);
    if (opened) await close(opened);
  };
  return {
    open(model) {
      const key = keyOf(model);
      const refused = (error: Error): undefined => {
        emit({ kind: "detail", text: `${networkOf(model)} opens when it is wanted, not before: ${error.message}` });
      };
      if (!opening.has(key)) opening.set(key, open(model, key).catch(refused));
      return { close: () => closeOne(key) };
    },
    take,
    count: () => opening.size,
    async closeAll() {
      for (const key of [...opening.keys()]) await closeOne(key);
    },
  };
}

// The bytes of a model name its weights' files and places in them.
function keyOf({ bytes, optimization }: Model): string {
  return createHash("sha256").update(optimization).update(bytes).digest("hex");
}

function networkOf({ name }: Model): string {
  return name.replace(/^the /, "");
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
