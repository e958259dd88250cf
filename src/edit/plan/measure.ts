// Wraps an engine to measure how long its sessions take to open and run, and how many operations they compute.

import { deviceName } from "../../engine/providers.js";
import type { Engine, Feeds, Session } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import { graphFlops, lengthsOf, weightBytes } from "./graph-cost.js";
import type { SessionTiming } from "./timings.js";

/** The same engine; `onClosed` gets the timing of each session that ran, when the session or the engine closes. */
export function measuredEngine(engine: Engine, onClosed: (timing: SessionTiming) => void): Engine {
  const { device } = engine;
  const open = new Set<Session>();
  return {
    device,
    async open(model) {
      const start = performance.now();
      const session = await engine.open(model);
      const openSeconds = (performance.now() - start) / 1000;
      const { graph, network, optimization, isTransient } = model;
      if (isTransient || !(graph instanceof Graph)) return session;
      const timed = timedSession(session, graph, (runs) => {
        open.delete(timed);
        const opened = {
          network,
          device: deviceName(device),
          threads: device.threads,
          optimization,
          weightBytes: weightBytes(graph),
          openSeconds,
        };
        if (runs.runs > 0) onClosed({ at: new Date().toISOString(), ...opened, ...runs });
      });
      open.add(timed);
      return timed;
    },
    async dispose() {
      for (const session of [...open]) await session.dispose();
      await engine.dispose();
    },
  };
}

type Runs = Pick<SessionTiming, "runs" | "flops" | "seconds">;

function timedSession(session: Session, graph: Graph, onClosed: (runs: Runs) => void): Session {
  let total: Runs = { runs: 0, flops: 0, seconds: 0 };
  const timed = async <T>(feeds: Feeds, run: () => Promise<T>) => {
    const start = performance.now();
    const results = await run();
    const seconds = (performance.now() - start) / 1000;
    const shapes = Object.fromEntries(Object.entries(feeds).map(([name, { shape }]) => [name, shape]));
    total = {
      runs: total.runs + 1,
      flops: total.flops + graphFlops(graph, lengthsOf(graph, shapes)),
      seconds: total.seconds + seconds,
    };
    return results;
  };
  return {
    ...session,
    run: (feeds) => timed(feeds, () => session.run(feeds)),
    ...(session.runKept && { runKept: (feeds, names) => timed(feeds, () => session.runKept!(feeds, names)) }),
    async dispose() {
      onClosed(total);
      await session.dispose();
    },
  };
}
