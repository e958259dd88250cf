// qedit kafka: what a cluster needs for qedit, and what failed on it.
import { defineCommand } from "../command.js";

/** `qedit kafka NOUN VERB`. */
export const kafka = defineCommand({
  examples: [
    "qedit kafka topics create --kafka localhost:9092",
    "qedit kafka schemas print",
    "qedit kafka dlq list --kafka localhost:9092",
  ],
  options: {},
  commands: [
    {
      name: "topics",
      summary: "Create and show the topics of qedit",
      load: async () => (await import("./kafka/topics.js")).topics,
    },
    {
      name: "schemas",
      summary: "Show and register the Avro schemas of the messages",
      load: async () => (await import("./kafka/schemas.js")).schemas,
    },
    {
      name: "dlq",
      summary: "List, show and send back dead letters",
      load: async () => (await import("./kafka/dlq.js")).dlq,
    },
  ],
});
