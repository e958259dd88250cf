// An engine that counts its sessions, keeps them open between uses while it is told to (many edits, one load of each network), and opens
// one before it is wanted.
import { createHash } from "node:crypto";
import type { Engine, Model, Session } from "../engine/engine.js";
import { QeditError } from "../errors.js";
import type { Emit } from "../events.js";

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
  const idle: OpenSession[] = [];
  const ahead = new Map<string, Promise<OpenSession | undefined>>();
  let holds = false;

  const close = async ({ session, network }: OpenSession) => {
    const start = performance.now();
    await session.dispose();
    emit({ kind: "session", action: "closed", network, seconds: secondsSince(start) });
  };
  const closeIdle = async () => {
    for (const each of idle.splice(0)) await close(each);
  };
  const closeAhead = async (key: string) => {
    const opening = ahead.get(key);
    ahead.delete(key);
    const opened = await opening;
    if (opened) await close(opened);
  };
  const closeAllAhead = async () => {
    for (const key of [...ahead.keys()]) await closeAhead(key);
  };
  // What is kept or opened for later may be what is lacking now.
  const withRoom = async <T>(work: () => Promise<T>): Promise<T> =>
    work().catch(async (error: unknown) => {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_MEMORY") || idle.length + ahead.size === 0) throw error;
      await closeAllAhead();
      await closeIdle();
      return work();
    });
  const opened = async (model: Model, key: string, opening: () => Promise<Session>): Promise<OpenSession> => {
    const start = performance.now();
    const session = await opening();
    const network = networkOf(model);
    emit({ kind: "session", action: "opened", network, seconds: secondsSince(start) });
    return { session, network, key };
  };
  const taken = (key: string): Promise<OpenSession | undefined> | OpenSession | undefined => {
    const at = idle.findIndex((each) => each.key === key);
    if (at >= 0) return idle.splice(at, 1)[0];
    const opening = ahead.get(key);
    ahead.delete(key);
    return opening;
  };
  return {
    device: engine.device,
    async open(model) {
      const key = keyOf(model);
      const before = taken(key);
      const { session, ...rest } = (before && (await before)) ?? (await opened(model, key, () => withRoom(() => engine.open(model))));
      return {
        run: (feeds) => withRoom(() => session.run(feeds)),
        async dispose() {
          if (holds && !model.isPassing) idle.push({ session, ...rest });
          else await close({ session, ...rest });
        },
      };
    },
    openAhead(model) {
      const key = keyOf(model);
      if (ahead.has(key)) return { close: () => closeAhead(key) };
      const opening = opened(model, key, () => engine.open(model)).catch((error: Error) => {
        emit({ kind: "detail", text: `${networkOf(model)} opens when it is wanted, not before: ${error.message}` });
        return undefined;
      });
      ahead.set(key, opening);
      return { close: () => closeAhead(key) };
    },
    hold() {
      holds = true;
    },
    async release() {
      holds = false;
      await closeIdle();
    },
    async dispose() {
      holds = false;
      await closeAllAhead();
      await closeIdle();
      await engine.dispose();
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
