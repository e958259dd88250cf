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

  // What one session of a network keeps, another one often takes: of idle halves, the one that opened the network last.
  const last = new Map<string, Half>();
  const idlest = (network: string): Half => {
    const idle = halves.filter(({ pending }) => pending === 0);
    if (idle.length > 0) return idle.find((half) => last.get(network) === half) ?? idle[0]!;
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
      const half = idlest(model.network);
      last.set(model.network, half);
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
