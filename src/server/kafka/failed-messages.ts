// What happens to a message that cannot be done, by the error table: dead letters, or another try later. Both keep the original bytes and headers.
import { ERRORS } from "../../edit/error-table.js";
import type { ErrorCode, Failure } from "../../std/errors.js";
import type { KafkaHeaders, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { TOPICS } from "./kafka-topics.js";

/** Headers that are added. */
export const HEADERS = {
  topic: "x-original-topic",
  partition: "x-original-partition",
  offset: "x-original-offset",
  timestamp: "x-original-timestamp",
  code: "x-error-code",
  message: "x-error-message",
  /** How often it has failed. */
  attempt: "x-attempt",
  /** Milliseconds since the epoch. */
  notBefore: "x-not-before",
  /** Where the bytes are that are too many for the topic. */
  valueUri: "x-value-uri",
} as const;

const ADDED = new Set<string>(Object.values(HEADERS));
/** A device that ran out of memory has tried smaller plans already: it gets one more try, perhaps elsewhere. */
const MEMORY_RETRIES = 1;
/** Longest message of an error in a header. */
const MESSAGE_LENGTH = 2000;

/** The text of a header; of several of one name the last. */
export function headerOf({ headers }: Pick<KafkaMessage, "headers">, name: string): string | undefined {
  return headers.findLast(([each]) => each === name)?.[1].toString("utf8");
}

/** How often a message has failed before. */
export function failuresOf(message: Pick<KafkaMessage, "headers">): number {
  const written = headerOf(message, HEADERS.attempt) ?? "0";
  return /^\d{1,4}$/.test(written) ? Number(written) : 0;
}

/** What to do with a message that failed. */
export type Fate =
  | { readonly action: "dead-letter" | "retry"; readonly message: ProducedMessage }
  | { readonly action: "commit" | "leave" };

/** The fate of a message by its failure; `delays` are the milliseconds before each further try. */
export function fateOf(message: KafkaMessage, failure: Failure, delays: readonly number[]): Fate {
  const { kafka: action } = ERRORS[failure.code as ErrorCode];
  if (action === "commit" || action === "leave") return { action };
  const failures = failuresOf(message) + 1;
  const most = failure.code === "QEDIT_E_MEMORY" ? Math.min(MEMORY_RETRIES, delays.length) : delays.length;
  const wait = action === "retry" && failures <= most ? delays[failures - 1] : undefined;
  const headers = failedHeaders(message, failure, failures);
  const { key, value } = message;
  if (wait === undefined) return { action: "dead-letter", message: { topic: TOPICS.dlq, key, value, headers } };
  const later = [...headers, [HEADERS.notBefore, Buffer.from(String(Date.now() + wait))] as const];
  return { action: "retry", message: { topic: TOPICS.retry, key, value, headers: later } };
}

/** A message as it was before it failed, for the topic where it was. */
export function originalOf({ key, value, headers }: KafkaMessage, topic: string): ProducedMessage {
  return { topic, key, value, headers: headers.filter(([name]) => !ADDED.has(name)) };
}

function failedHeaders(message: KafkaMessage, { code, message: text }: Failure, failures: number): KafkaHeaders {
  // Where it was when it failed first.
  const first = (name: string, now: string) => [name, Buffer.from(headerOf(message, name) ?? now)] as const;
  return [
    ...message.headers.filter(([name]) => !ADDED.has(name)),
    first(HEADERS.topic, message.topic),
    first(HEADERS.partition, String(message.partition)),
    first(HEADERS.offset, String(message.offset)),
    first(HEADERS.timestamp, String(message.timestamp)),
    [HEADERS.code, Buffer.from(code)],
    [HEADERS.message, Buffer.from(text.slice(0, MESSAGE_LENGTH))],
    [HEADERS.attempt, Buffer.from(String(failures))],
  ];
}
