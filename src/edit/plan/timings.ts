// How long sessions took on this machine, and how long one should take by that.

/** How long one session took to open and to run. */
export interface SessionTiming {
  /** When it closed, ISO 8601. */
  readonly at: string;
  /** Id of the network: `transformer`. */
  readonly network: string;
  /** `cpu`, `cuda:0`. */
  readonly device: string;
  /** Threads on the CPU; 0 is all. */
  readonly threads: number;
  readonly optimization: string;
  /** Bytes of weights as stored. */
  readonly weightBytes: number;
  readonly openSeconds: number;
  readonly runs: number;
  /** Total of all runs. */
  readonly flops: number;
  readonly seconds: number;
}

/** What determines how long a session takes. */
export interface SessionLoad
  extends Pick<SessionTiming, "network" | "device" | "threads" | "optimization" | "weightBytes" | "flops" | "runs"> {}

/** Estimated seconds of a session; `basis` is the number of earlier sessions it is estimated from. */
export interface SessionEstimate {
  readonly open: number;
  readonly run: number;
  readonly basis: number;
}

/** Sessions are comparable if their sizes and operations per run differ by less than this factor. */
const COMPARABLE = 16;

/** Estimates seconds by the median speed of comparable sessions of the same network on the same device; undefined if there are none. */
export function estimateSession(load: SessionLoad, timings: readonly SessionTiming[]): SessionEstimate | undefined {
  const isNear = (a: number, b: number) => a / b < COMPARABLE && b / a < COMPARABLE;
  const comparable = timings.filter(
    (timing) =>
      (["network", "device", "threads", "optimization"] as const).every((key) => timing[key] === load[key]) &&
      isNear(timing.flops / timing.runs, load.flops / load.runs) &&
      isNear(timing.weightBytes, load.weightBytes),
  );
  if (comparable.length === 0) return undefined;
  return {
    open: median(comparable.map(({ openSeconds, weightBytes }) => openSeconds / weightBytes)) * load.weightBytes,
    run: load.flops / median(comparable.map(({ flops, seconds }) => flops / seconds)),
    basis: comparable.length,
  };
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
