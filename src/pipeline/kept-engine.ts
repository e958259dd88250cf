// An engine that counts its sessions, and keeps them open between uses while it is told to: many edits, one load of each network.
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
}

interface OpenSession {
  readonly session: Session;
  readonly network: string;
  readonly key: string;
}

/** Decorates an engine, which goes with it; every session that is opened or closed is told as an event. */
export function keptEngine(engine: Engine, emit: Emit): KeptEngine {
  const idle: OpenSession[] = [];
  let holds = false;

  const close = async ({ session, network }: OpenSession) => {
    const start = performance.now();
    await session.dispose();
    emit({ kind: "session", action: "closed", network, seconds: secondsSince(start) });
  };
  const closeIdle = async () => {
    for (const each of idle.splice(0)) await close(each);
  };
  const open = async (model: Model, key: string): Promise<OpenSession> => {
    const start = performance.now();
    const session = await engine.open(model).catch(async (error: unknown) => {
      // What is kept for later may be what this one lacks.
      if (!(error instanceof QeditError && error.code === "QEDIT_E_MEMORY") || idle.length === 0) throw error;
      await closeIdle();
      return engine.open(model);
    });
    const network = model.name.replace(/^the /, "");
    emit({ kind: "session", action: "opened", network, seconds: secondsSince(start) });
    return { session, network, key };
  };
  return {
    device: engine.device,
    async open(model) {
      const key = keyOf(model);
      const at = idle.findIndex((each) => each.key === key);
      const opened = at < 0 ? await open(model, key) : idle.splice(at, 1)[0]!;
      return {
        run: (feeds) => opened.session.run(feeds),
        async dispose() {
          if (holds && !model.isPassing) idle.push(opened);
          else await close(opened);
        },
      };
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
      await closeIdle();
      await engine.dispose();
    },
  };
}

// The bytes of a model name its weights' files and places in them.
function keyOf({ bytes, optimization }: Model): string {
  return createHash("sha256").update(optimization).update(bytes).digest("hex");
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
