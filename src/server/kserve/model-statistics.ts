// Counts and times of each model's requests, as Triton's statistics have them.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
import { VERSION } from "../../kserve/infer-request.js";

/** What is counted. Queue: waiting for its turn; compute: reading the request, the model's work, writing its outputs. */
const KINDS = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"] as const;

/** Triton counts answers from its cache apart; here a cached stage is a success. */
const UNUSED = ["cache_hit", "cache_miss"] as const;

type Kind = (typeof KINDS)[number];

/** A count, and nanoseconds. */
interface Duration {
  readonly count: number;
  readonly ns: number;
}

/** The statistics of a model. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds since the epoch; 0: never. */
  readonly last_inference: number;
  readonly inference_count: number;
  readonly execution_count: number;
  readonly inference_stats: Readonly<Record<Kind | (typeof UNUSED)[number], Duration>>;
  readonly batch_stats: readonly never[];
}

/** Follows one request: each phase is called when it begins. */
export interface RequestClock {
  readonly phase: (kind: "queue" | "compute_input" | "compute_infer" | "compute_output") => void;
  readonly end: (kind: "success" | "fail") => void;
}

const NANOSECONDS = 1e6;

interface Counts {
  last: number;
  readonly durations: Record<Kind, { count: number; ns: number }>;
}

/** The statistics of all models since the server was started. */
export class Statistics {
  readonly #models = new Map<string, Counts>();

  /** Begins to follow a request for a model. */
  start(name: string): RequestClock {
    const start = performance.now();
    const spent = new Map<Kind, number>();
    let current: { readonly kind: Kind; readonly since: number } = { kind: "compute_input", since: start };
    const leave = (now: number) => spent.set(current.kind, (spent.get(current.kind) ?? 0) + now - current.since);
    return {
      phase(kind) {
        const now = performance.now();
        leave(now);
        current = { kind, since: now };
      },
      end: (kind) => {
        const now = performance.now();
        leave(now);
        const counts = this.#countsOf(name);
        add(counts, kind, now - start);
        if (kind === "fail") return;
        counts.last = Date.now();
        for (const phase of KINDS.slice(2)) add(counts, phase, spent.get(phase) ?? 0);
      },
    };
  }

  /** The statistics of one model. */
  of(name: string): ModelStatistics {
    const { last, durations } = this.#models.get(name) ?? noCounts();
    const stats = KINDS.map((kind) => [kind, { count: durations[kind].count, ns: Math.round(durations[kind].ns) }]);
    const unused = UNUSED.map((kind) => [kind, { count: 0, ns: 0 }]);
    return {
      ...{ name, version: VERSION, last_inference: last },
      inference_count: durations.success.count,
      execution_count: durations.success.count,
      inference_stats: Object.fromEntries([...stats, ...unused]) as ModelStatistics["inference_stats"],
      batch_stats: [],
    };
  }

  /** The statistics of some. */
  all(names: readonly string[]): readonly ModelStatistics[] {
    return names.map((name) => this.of(name));
  }

  #countsOf(name: string): Counts {
    const known = this.#models.get(name);
    if (known !== undefined) return known;
    const counts = noCounts();
    this.#models.set(name, counts);
    return counts;
  }
}

function noCounts(): Counts {
  const durations = Object.fromEntries(KINDS.map((kind) => [kind, { count: 0, ns: 0 }])) as Counts["durations"];
  return { last: 0, durations };
}

function add({ durations }: Counts, kind: Kind, milliseconds: number): void {
  durations[kind].count += 1;
  durations[kind].ns += milliseconds * NANOSECONDS;
}
