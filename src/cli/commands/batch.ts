// qedit batch: runs a file of jobs, loads each network once, and prints a result line per job.
import * as v from "valibot";
import { defaulted, optional, type SettingsOf } from "../../edit/parameters/parameter.js";
import { type Kind, toggle } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { sheet } from "../files/sheet-option.js";
import { runOptions } from "../jobs/run-options.js";
import { remoteOptions } from "../settings/remote-options.js";
import { jobsFileOptions, manyOptions, maxFailures, serverOptions } from "../settings/shared-options.js";

/** Every count-th job, starting with job `index` (from 1). */
interface Shard {
  readonly index: number;
  readonly count: number;
}

const shard: Kind<Shard> = {
  schema: v.pipe(
    v.string(),
    v.regex(/^\d{1,6}\/\d{1,6}$/),
    v.transform((written): Shard => {
      const [index, count] = written.split("/").map(Number) as [number, number];
      return { index, count };
    }),
    v.check(({ index, count }) => index >= 1 && index <= count),
  ) as v.GenericSchema<unknown, Shard>,
  wanted: "i/n, with i from 1 to n,",
};

const { output: _, ...jobOptions } = runOptions;

const options = {
  ...jobOptions,
  ...jobsFileOptions,
  lastFailed: defaulted(toggle, false, {
    summary: "only the jobs that failed last time",
    group: "Output",
    scope: "call",
  }),
  maxFailures,
  shard: optional(shard, {
    summary: "only every n-th job, from the i-th on: for n machines",
    group: "Output",
    scope: "call",
    placeholder: "<i/n>",
  }),
  sheet,
  ...manyOptions,
  ...serverOptions,
  ...remoteOptions,
};

/** The settings of a call. */
export type BatchSettings = SettingsOf<typeof options>;

/** `qedit batch jobs.jsonl`. */
export const batch = defineCommand({
  examples: [
    "qedit batch jobs.jsonl > results.jsonl",
    "qedit batch jobs.jsonl --resume",
    "qedit batch jobs.jsonl --last-failed",
    "jq -c '.[]' jobs.json | qedit batch - --fast 4",
    "qedit batch jobs.jsonl --shard 2/4",
  ],
  positionals: [
    ["<jobs>", 'lines such as {"images": ["a.jpg"], "prompt": "…", "output": "b.png", "steps": 8}; - is stdin'],
  ],
  options,
  async perform(call, terminal) {
    const { editBatch } = await import("../actions/edit-batch.js");
    await editBatch(call, terminal);
  },
});
