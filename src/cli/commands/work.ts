// qedit work: `qedit serve` for machines that take their edits from Kafka alone.
import { defaulted } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { kafkaOptions } from "../settings/kafka-options.js";
import { serveOptions } from "./serve.js";

const { http, ...others } = serveOptions;

/** `qedit work`. */
export const workCommand = defineCommand({
  examples: [
    "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --grace 10m",
    "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --stages encode-image,decode",
  ],
  options: {
    ...others,
    ...kafkaOptions,
    http: defaulted(text, "none", {
      ...{ group: http.group, scope: http.scope, placeholder: "<[host:]port>" },
      summary: "where to answer over HTTP as well: health, metrics, jobs",
    }),
  },
  async perform(call, terminal) {
    const { serveEdits } = await import("../actions/serve-edits.js");
    await serveEdits(call, terminal);
  },
});
