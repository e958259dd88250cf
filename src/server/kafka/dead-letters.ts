// The dead letters: reading them all, choosing some, and sending those back as they were.
import { QeditError } from "../../std/errors.js";
import { failuresOf, HEADERS, headerOf, originalOf } from "./failed-messages.js";
import type { KafkaClient, KafkaMessage } from "./kafka-port.js";
import { TOPICS, workOf } from "./kafka-topics.js";

/** A dead letter. */
export interface DeadLetter {
  /** `PARTITION:OFFSET`. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** The job's id: the key of the message. */
  readonly job: string;
  readonly code: string;
  readonly error: string;
  readonly attempt: number;
  readonly from: string;
  readonly message: KafkaMessage;
}

/** Which letters are meant; what is undefined says nothing. */
export interface LetterFilter {
  readonly ids: readonly string[];
  readonly code: string | undefined;
  readonly job: string | undefined;
  /** Not older than so many milliseconds. */
  readonly within: number | undefined;
}

/** Milliseconds without a message after which no more is waited for: offsets may have gaps at their end. */
const QUIET = 5000;

/** The dead letters that are there now, the oldest of each partition first. */
export async function readDeadLetters(client: KafkaClient, filter: LetterFilter): Promise<readonly DeadLetter[]> {
  const letters = (await readAll(client, TOPICS.dlq)).map(letterOf);
  const unknown = filter.ids.find((id) => !letters.some((each) => each.id === id));
  if (unknown !== undefined)
    throw new QeditError("QEDIT_E_USAGE", `There is no dead letter ${unknown}`, {
      hint: "`qedit kafka dlq list` names them",
    });
  return letters.filter(
    ({ id, code, job, at }) =>
      (filter.ids.length === 0 || filter.ids.includes(id)) &&
      (filter.code === undefined || code === filter.code) &&
      (filter.job === undefined || job === filter.job) &&
      (filter.within === undefined || at >= Date.now() - filter.within),
  );
}

/** Sends a letter back to where it came from, as it was before it failed. Throws QEDIT_E_USAGE for one that did not come from qedit's requests or has lost its bytes. */
export async function redrive(client: KafkaClient, { id, message }: DeadLetter): Promise<void> {
  const topic = headerOf(message, HEADERS.topic);
  if (topic === undefined || workOf(topic) === undefined)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot send dead letter ${id} back: its topic "${topic ?? ""}" is none of requests`,
    );
  const uri = headerOf(message, HEADERS.valueUri);
  if (uri !== undefined)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot send dead letter ${id} back: its bytes, too many for a message, are in ${uri}`,
      {
        hint: "Send a new request with its pictures by reference",
      },
    );
  await client.produce(originalOf(message, topic));
}

async function readAll(client: KafkaClient, topic: string): Promise<readonly KafkaMessage[]> {
  const offsets = await client.offsets(topic);
  const missing = new Set(offsets.flatMap(({ first, next }, partition) => (next > first ? [partition] : [])));
  if (missing.size === 0) return [];
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), QUIET * 2);
  const messages: KafkaMessage[] = [];
  for await (const message of client.read(
    topic,
    offsets.map(({ first }) => first),
    stop.signal,
  )) {
    const { next } = offsets[message.partition]!;
    if (message.offset < next) messages.push(message);
    if (message.offset >= next - 1n) missing.delete(message.partition);
    if (missing.size === 0) break;
    timer.refresh();
  }
  clearTimeout(timer);
  return messages.sort((a, b) => a.partition - b.partition || Number(a.offset - b.offset));
}

function letterOf(message: KafkaMessage): DeadLetter {
  const { partition, offset, timestamp, key } = message;
  return {
    ...{ id: `${partition}:${offset}`, at: Number(timestamp), job: key?.toString("utf8") ?? "" },
    code: headerOf(message, HEADERS.code) ?? "",
    error: headerOf(message, HEADERS.message) ?? "",
    attempt: failuresOf(message),
    from: `${headerOf(message, HEADERS.topic)} ${headerOf(message, HEADERS.partition)}:${headerOf(message, HEADERS.offset)}`,
    message,
  };
}
