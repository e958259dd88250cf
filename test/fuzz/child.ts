// One target in a process of its own: `child.ts TARGET SEED SECONDS FOLDER`. Sends a sign of life every second, and at its end what it found.
import fc from "fast-check";
import { QeditError } from "../../src/std/errors.js";
import { clean, TARGETS } from "./targets.js";

/** Milliseconds that a case may take; the slowest take less than a second on a quiet machine. */
const CASE_LIMIT = 20_000;

/** What a target came to. */
export interface Report {
  readonly cases: number;
  /** Peak of resident memory, bytes. */
  readonly memory: number;
  /** The smallest input that failed, and how; undefined when none did. */
  readonly failure: string | undefined;
}

const [name, seed, seconds, folder] = process.argv.slice(2) as [string, string, string, string];
const { inputs, read } = TARGETS[name]!;
setInterval(() => process.send!("alive"), 1000).unref();

let cases = 0;
const property = fc.asyncProperty(inputs, async (input) => {
  cases += 1;
  clean(folder);
  try {
    await read(input, folder);
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    if (/\n/.test(error.message) || /^\s*$/.test(error.message) || /: (Unknown error)?$/.test(error.message))
      throw new Error(`a message that says nothing: ${JSON.stringify(error.message)}`, { cause: error });
  }
});
const settings = { seed: Number(seed), timeout: CASE_LIMIT };
const timed = await fc.check(property, {
  ...settings,
  numRuns: 1e9,
  interruptAfterTimeLimit: Number(seconds) * 1000,
  markInterruptAsFailure: false,
});
// Interrupted within the first case, as on a busy machine, it has found nothing out: that case is read to its end.
const isCutShort = timed.failed && timed.counterexample === null;
const found = isCutShort ? await fc.check(property, { ...settings, numRuns: 1 }) : timed;
const { failed, counterexample, errorInstance, seed: used, counterexamplePath } = found;
const shown = counterexample?.map((each) => (each instanceof Uint8Array ? Buffer.from(each).toString("base64") : each));
const failure = failed
  ? `seed ${used}, path ${counterexamplePath}: ${JSON.stringify(shown)?.slice(0, 3000)}\n${(errorInstance as Error)?.stack ?? errorInstance}`
  : undefined;
const report: Report = { cases, memory: process.resourceUsage().maxRSS * 1024, failure };
process.send!(report, () => process.exit());
