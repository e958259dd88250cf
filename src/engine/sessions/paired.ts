// Two engines as one: a session that opens while another one computes opens in the engine that has nothing to do.
import type { Device } from "../providers.js";
import type { Engine, Session } from "./engine.js";
import { threadedEngine } from "./threaded.js";

interface Half {
  readonly engine: Engine;
  /** Requests without a response. */
  pending: number;
}

/** Starts an engine, in a worker thread unless `start` is given, and a second one when a session is to open while the first is busy; dispose ends both. */
export function pairedEngine(device: Device, start: (device: Device) => Engine = threadedEngine): Engine {
  const halves: Half[] = [{ engine: start(device), pending: 0 }];

  const idlest = (): Half => {
    const idle = halves.find(({ pending }) => pending === 0);
    if (idle) return idle;
    if (halves.length === 1) halves.push({ engine: start(device), pending: 0 });
    return halves.reduce((least, each) => (each.pending < least.pending ? each : least));
  };
  const counted = async <T>(half: Half, request: () => Promise<T>): Promise<T> => {
    half.pending += 1;
    try {
      return await request();
    } finally {
      half.pending -= 1;
    }
  };
  return {
    device,
    async open(model) {
      const half = idlest();
      const session = await counted(half, () => half.engine.open(model));
      const own: Session = {
        ...session,
        run: (feeds) => counted(half, () => session.run(feeds)),
        ...(session.runKept && { runKept: (feeds, names) => counted(half, () => session.runKept!(feeds, names)) }),
        ...(session.keep && { keep: (tensors) => counted(half, () => session.keep!(tensors)) }),
        dispose: () => counted(half, () => session.dispose()),
      };
      return own;
    },
    async dispose() {
      await Promise.all(halves.map(({ engine }) => engine.dispose()));
    },
  };
}
