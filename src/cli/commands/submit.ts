// qedit submit: hands the jobs of a file to Kafka's workers.
import { defineCommand } from "../command.js";
import { submitOptions } from "../settings/submit-options.js";

/** `qedit submit jobs.jsonl`. */
export const submit = defineCommand({
  examples: [
    "qedit submit jobs.jsonl --kafka broker-1:9092 --store /shared/store --wait > results.jsonl",
    "qedit submit jobs.jsonl --kafka broker-1:9092 --store /shared/store --wait --resume",
    "qedit submit jobs.jsonl --kafka broker-1:9092 --store /shared/store",
    "qedit submit jobs.jsonl --kafka broker-1:9092 --store /shared/store --workflow encode-image,encode-prompt,sample,decode",
  ],
  positionals: [
    ["<jobs>", 'lines such as {"images": ["a.jpg"], "prompt": "…", "output": "b.png", "steps": 8}; - is stdin'],
  ],
  options: submitOptions,
  async perform(call, terminal) {
    const { submitJobs } = await import("../actions/submit-jobs.js");
    await submitJobs(call, terminal);
  },
});
