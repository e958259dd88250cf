// Options of the commands that speak with Kafka.
import { defaulted, optional } from "../../edit/parameters/parameter.js";
import { choicesOf, durations, text } from "../../edit/parameters/parameter-kinds.js";
import { WORK } from "../../server/kafka/kafka-topics.js";

const brokers = {
  group: "Server",
  scope: "user",
  placeholder: "<host:port,...>",
} as const;

/** The brokers of a command that does nothing without them. */
export const kafkaOptions = {
  kafka: optional(text, { ...brokers, summary: "Kafka's brokers, separated by commas", isRequired: true }),
};

/** --store. */
export const store = optional(text, {
  summary: "folder, or s3://bucket/prefix, that Kafka's clients and workers share: pictures above 256 KB, and results",
  group: "Server",
  scope: "user",
  placeholder: "<folder>",
  initialText: "store in the data folder",
});

/** --schema-registry. */
export const schemaRegistry = optional(text, {
  summary: "registry of Avro schemas, whose framing messages have then",
  group: "Server",
  scope: "user",
  placeholder: "<url>",
  initialText: "none: messages name their schemas themselves",
});

const SECOND = 1000;

/** Options of a worker. */
export const workerOptions = {
  kafka: optional(text, { ...brokers, summary: "take edits from Kafka too: its brokers, separated by commas" }),
  kafkaGroup: defaulted(text, "qedit", {
    summary: "workers of one group share the requests",
    group: "Server",
    scope: "user",
    placeholder: "<name>",
  }),
  kafkaMember: optional(text, {
    summary: "name that no other worker has: its requests wait for it while it is started again",
    group: "Server",
    scope: "user",
    placeholder: "<name>",
    initialText: "none: other workers take over at once",
  }),
  stages: defaulted(choicesOf(WORK), ["run"], {
    summary: "what to take from Kafka: run, whole edits; or single stages, separated by commas",
    group: "Server",
    scope: "user",
    placeholder: "<stages>",
    initialText: "run",
  }),
  store,
  schemaRegistry,
  retryDelays: defaulted(durations, [5 * SECOND, 60 * SECOND, 600 * SECOND], {
    summary: "waits before the next tries of what failed for a passing reason, separated by commas",
    group: "Server",
    scope: "user",
    placeholder: "<durations>",
    initialText: "5s,1m,10m",
  }),
};
