// An engine of two threads: a session that opens while another one computes opens in the thread that has nothing to do.

import type { Device } from "../providers.js";
import type { Engine, Session } from "./engine.js";
import { threadedEngine } from "./threaded.js";

interface Thread {
  readonly engine: Engine;
  /** Requests that it has not answered yet. */
  pending: number;
}

/** Starts a thread that owns sessions, and a second one when a session is to open while the first is busy; dispose ends both. */
export function pairedEngine(device: Device): Engine {
  const threads: Thread[] = [{ engine: threadedEngine(device), pending: 0 }];

  const idlest = (): Thread => {
    const free = threads.find(({ pending }) => pending === 0);
    if (free) return free;
    if (threads.length === 1) threads.push({ engine: threadedEngine(device), pending: 0 });
    return threads.reduce((least, each) => (each.pending < least.pending ? each : least));
  };
  const asked = async <T>(thread: Thread, ask: () => Promise<T>): Promise<T> => {
    thread.pending += 1;
    try {
      return await ask();
    } finally {
      thread.pending -= 1;
    }
  };
  return {
    device,
    async open(model) {
      const thread = idlest();
      const session = await asked(thread, () => thread.engine.open(model));
      const own: Session = {
        run: (feeds) => asked(thread, () => session.run(feeds)),
        dispose: () => asked(thread, () => session.dispose()),
      };
      return own;
    },
    async dispose() {
      await Promise.all(threads.map(({ engine }) => engine.dispose()));
    },
  };
}
