// Options of the commands that speak with Kafka.
import { optional } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";

/** The brokers of a command that does nothing without them. */
export const kafkaOptions = {
  kafka: optional(text, {
    summary: "Kafka's brokers, separated by commas",
    group: "Server",
    scope: "user",
    placeholder: "<host:port,...>",
    isRequired: true,
  }),
};
