// Progress events: plain data, the same for the terminal, NDJSON and servers.

/** One thing that happened; `seconds` are measured, bytes are bytes. */
export type ProgressEvent =
  /** What was decided before computing, a line each. */
  | { readonly kind: "plan"; readonly lines: readonly string[] }
  /** Worth knowing. `evaluations`: of the transformer with a step cache, computed whole, and by its first block alone. */
  | {
      readonly kind: "note";
      readonly text: string;
      readonly evaluations?: { readonly whole: number; readonly reused: number };
    }
  /** Probably not what was meant. */
  | { readonly kind: "warning"; readonly text: string }
  /** Only worth knowing when something is being looked into. */
  | { readonly kind: "detail"; readonly text: string }
  /** What is being done just now. */
  | { readonly kind: "activity"; readonly text: string }
  | { readonly kind: "start"; readonly stage: string }
  /** Step 0 comes before the first one is computed; `seconds` is the time of one step. */
  | { readonly kind: "step"; readonly step: number; readonly total: number; readonly seconds: number }
  | { readonly kind: "end"; readonly stage: string; readonly seconds: number }
  /** How far the result zoomed and shifted against picture 1: pixels of the result to the right and down, all undefined when they cannot be measured. */
  | {
      readonly kind: "drift";
      readonly zoom?: number;
      readonly right?: number;
      readonly down?: number;
      readonly text: string;
    }
  /** A graph was opened with its weights, or closed. */
  | {
      readonly kind: "session";
      readonly action: "opened" | "closed";
      /** Id of the network that it is, or is a part of: `vae-encoder`. */
      readonly network: string;
      /** For messages: `the transformer, blocks 0 to 3`. */
      readonly name: string;
      readonly seconds: number;
    }
  /** A stage's result was taken from an earlier run, or kept for later ones. */
  | { readonly kind: "cache"; readonly action: "hit" | "stored"; readonly stage: string; readonly key: string }
  /** Bytes of a download or a hash so far; `total` is undefined when it is unknown. */
  | {
      readonly kind: "transfer";
      readonly name: string;
      readonly bytes: number;
      readonly total: number | undefined;
      readonly bytesPerSecond: number;
    }
  /** One job of many; `index` counts from 1. A job starts once for each stage when a batch goes stage by stage. */
  | {
      readonly kind: "job";
      readonly state: "started" | "done" | "failed" | "skipped";
      readonly job: string;
      readonly index: number;
      readonly total: number;
      /** How it failed. */
      readonly error?: { readonly code: string; readonly message: string; readonly hint: string | undefined };
    };

/** Takes events as they happen. */
export type Emit = (event: ProgressEvent) => void;
