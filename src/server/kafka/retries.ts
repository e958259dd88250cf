// Puts messages that failed for a passing reason back where they came from, when their time has come.
import { setTimeout as delay } from "node:timers/promises";
import { QeditError } from "../../std/errors.js";
import type { Log } from "../log.js";
import { fateOf, HEADERS, headerOf, type originalOf } from "./failed-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { TOPICS, workOf } from "./kafka-topics.js";
import { takeMessages } from "./message-loop.js";

/** Messages that wait here at once, of at most 2 MB; the others wait in the topic. */
const WAITING = 64;
/** A time further away than this is wrong. */
const LONGEST_WAIT = 24 * 3600_000;

/** Options of moveRetries. */
export interface RetryOptions {
  readonly client: Pick<KafkaClient, "join">;
  readonly produce: (message: ProducedMessage) => Promise<void>;
  readonly group: string;
  readonly member: string | undefined;
  readonly log: Log;
  readonly stop: AbortSignal;
}

/** Moves messages until it is stopped. Those that wait are not committed: another member has them when this one ends. */
export function moveRetries({ client, produce, group, member, log, stop }: RetryOptions): Promise<void> {
  return takeMessages({
    ...{ client, member, log, stop, topic: TOPICS.retry, group: `${group}-retry`, atOnce: WAITING },
    async handle(message, isOurs) {
      const moved = returned(message);
      try {
        await delay(waitOf(message), undefined, { signal: stop });
      } catch {
        return false;
      }
      if (!isOurs()) return false;
      await produce(moved);
      return true;
    },
  });
}

// The message for its topic; it keeps the count of its failures. What did not come from qedit is a dead letter.
function returned(message: KafkaMessage): ReturnType<typeof originalOf> {
  const topic = headerOf(message, HEADERS.topic);
  const { key, value, headers } = message;
  if (topic !== undefined && workOf(topic) !== undefined)
    return { topic, key, value, headers: headers.filter(([name]) => name !== HEADERS.notBefore) };
  const error = new QeditError("QEDIT_E_USAGE", `Cannot try this again: ${HEADERS.topic} names no topic of requests`);
  return (fateOf(message, { code: error.code, ...error.marked }, []) as { message: ProducedMessage }).message;
}

function waitOf(message: KafkaMessage): number {
  const due = Number(headerOf(message, HEADERS.notBefore) ?? 0);
  return Number.isFinite(due) ? Math.min(Math.max(due - Date.now(), 0), LONGEST_WAIT) : 0;
}
