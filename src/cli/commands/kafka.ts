// qedit kafka: what a cluster needs for qedit, and what failed on it.
import { defineCommand } from "../command.js";
import { dlq } from "./kafka/dlq.js";
import { schemas } from "./kafka/schemas.js";
import { topics } from "./kafka/topics.js";

/** `qedit kafka NOUN VERB`. */
export const kafka = defineCommand({
  summary: "Make Kafka's topics, show schemas and what failed",
  examples: [
    "qedit kafka topics create --kafka localhost:9092",
    "qedit kafka schemas print",
    "qedit kafka dlq list --kafka localhost:9092",
  ],
  options: {},
  commands: { topics, schemas, dlq },
});
