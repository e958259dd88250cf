// The topics of qedit, and how each is made.
import { setTimeout as delay } from "node:timers/promises";
import { QeditError } from "../../std/errors.js";
import type { KafkaClient, NewTopic } from "./kafka-port.js";

/** Their names. */
export const TOPICS = {
  request: "qedit.run.request.v1",
  response: "qedit.run.response.v1",
  progress: "qedit.progress.v1",
  retry: "qedit.retry.v1",
  dlq: "qedit.dlq.v1",
} as const;

/** Milliseconds until every broker knows a new topic; it takes some tens. */
const KNOWN_WITHIN = 5000;
const DAY = 24 * 3600_000;
/** Pictures of up to 256 KB stand in a message, and a few of them at once. */
const MESSAGE_BYTES = 1024 ** 2;

/** Settings of each topic, https://kafka.apache.org/documentation/#topicconfigs. */
const CONFIGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  [TOPICS.request]: { "retention.ms": String(7 * DAY) },
  [TOPICS.response]: { "retention.ms": String(7 * DAY) },
  // Only the newest of each job is of interest.
  [TOPICS.progress]: { "cleanup.policy": "compact,delete", "retention.ms": String(DAY) },
  // What failed has more headers than it had.
  [TOPICS.retry]: { "retention.ms": String(7 * DAY), "max.message.bytes": String(2 * MESSAGE_BYTES) },
  [TOPICS.dlq]: { "retention.ms": String(28 * DAY), "max.message.bytes": String(2 * MESSAGE_BYTES) },
};

/** How topics are made. */
interface Sizes {
  /** As many workers as this share the requests. */
  readonly partitions: number;
  readonly replicas: number;
}

/** Topics to create. */
function newTopics({ partitions, replicas }: Sizes): readonly NewTopic[] {
  return Object.values(TOPICS).map((name) => ({
    name,
    partitions: name === TOPICS.dlq ? 1 : partitions,
    replicas,
    configs: { "max.message.bytes": String(MESSAGE_BYTES), ...CONFIGS[name] },
  }));
}

/** Creates the topics that are missing; gives all, and whether each was made now. */
export async function createTopics(
  client: KafkaClient,
  sizes: Sizes,
): Promise<readonly (NewTopic & { readonly isNew: boolean })[]> {
  const topics = [];
  for (const topic of newTopics(sizes)) topics.push({ ...topic, isNew: await client.create(topic) });
  // Brokers hear of them a moment later.
  const end = Date.now() + KNOWN_WITHIN;
  for (let there: readonly string[] = []; topics.some(({ name }) => !there.includes(name)) && Date.now() < end; ) {
    there = await client.topicNames();
    await delay(KNOWN_WITHIN / 100);
  }
  return topics;
}

/** Throws QEDIT_E_USAGE unless the topics are there. */
export async function checkTopics(
  client: Pick<KafkaClient, "topicNames">,
  names: readonly string[],
  brokers: string,
): Promise<void> {
  const there = await client.topicNames();
  const missing = names.filter((name) => !there.includes(name));
  if (missing.length === 0) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot work at ${brokers}: ${missing.join(", ")} is not there`, {
    hint: `qedit kafka topics create --kafka ${brokers}`,
  });
}
