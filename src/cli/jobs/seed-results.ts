// The results of a call with several seeds: each is printed when it is there, all of them at the end with --json, and failures are refused together.
import type { Terminal } from "../render/terminal.js";
import { type JobEnd, refuseFailures, type Tally } from "./many.js";

/** What is known of one picture. */
interface SeedResult {
  readonly path: string;
  readonly seed: bigint;
  /** How the picture was made. */
  readonly info?: object | undefined;
}

/** What all took together. */
interface Totals {
  readonly sheet: string | undefined;
  readonly device: string;
  readonly seconds: Readonly<Record<string, number>>;
}

/** Collects results. */
export interface SeedResults {
  /** Takes the end of a picture by its place. */
  readonly ended: (index: number, result: SeedResult, end: JobEnd) => void;
  readonly hasSome: () => boolean;
  /** Prints the record. Throws QEDIT_E_PARTIAL if any failed. */
  readonly finish: (totals: Totals) => void;
}

/** Opens the results of a call. */
export function seedResults(terminal: Terminal): SeedResults {
  const outputs = new Map<number, JobEnd & { readonly output: string; readonly seed: bigint }>();
  const tally: Tally = { done: 0, failed: 0, skipped: 0 };
  return {
    ended(index, { path, seed, info }, end) {
      tally[end.status] += 1;
      outputs.set(index, { output: path, seed, ...end, ...(info && { info }) });
      if (end.status === "done" && !terminal.settings.json) terminal.item({}, path);
    },
    hasSome: () => tally.done > 0,
    finish({ sheet, device, seconds }) {
      const ordered = [...outputs].sort(([a], [b]) => a - b).map(([, output]) => output);
      if (terminal.settings.json) terminal.result({ outputs: ordered, kind: "pictures", sheet, device, seconds }, []);
      const missing = ordered.filter(({ status }) => status !== "done").map(({ seed }) => seed);
      refuseFailures(tally, `Make those again under another name: --seeds ${missing.join(",")} -o FILE`);
    },
  };
}
