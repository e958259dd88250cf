// The topics of qedit, and how each is made.
import { setTimeout as delay } from "node:timers/promises";
import { STAGES } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { KafkaClient, NewTopic } from "./kafka-port.js";

/** What a worker does of an edit: all of it, or one stage; in order. */
export const WORK = ["run", ...STAGES] as const;

/** One of them. */
export type Work = (typeof WORK)[number];

/** Names of the topics of whole edits, and of those that all share. */
export const TOPICS = {
  request: "qedit.run.request.v1",
  response: "qedit.run.response.v1",
  progress: "qedit.progress.v1",
  retry: "qedit.retry.v1",
  dlq: "qedit.dlq.v1",
} as const;

/** Where requests for some work are. */
export function requestTopic(work: Work): string {
  return `qedit.${work}.request.v1`;
}

/** Where the answers are of workflows that end with it. */
export function responseTopic(work: Work): string {
  return `qedit.${work}.response.v1`;
}

/** The work whose requests a topic holds; undefined for any other topic. */
export function workOf(topic: string | undefined): Work | undefined {
  return WORK.find((work) => requestTopic(work) === topic);
}

const SHARED = [TOPICS.progress, TOPICS.retry, TOPICS.dlq];

/** The names of all topics. */
export const TOPIC_NAMES: readonly string[] = [
  ...WORK.flatMap((work) => [requestTopic(work), responseTopic(work)]),
  ...SHARED,
];

/** The topics that a worker reads or writes: those of its own work, and of what may come after it in a workflow. */
export function topicsOf(works: readonly Work[]): readonly string[] {
  const own = works.flatMap((work) => (work === "run" ? [work] : WORK.slice(WORK.indexOf(work))));
  return [
    ...WORK.filter((work) => own.includes(work)).flatMap((work) => [requestTopic(work), responseTopic(work)]),
    ...SHARED,
  ];
}

/** Milliseconds until every broker knows a new topic; it takes some tens. */
const KNOWN_WITHIN = 5000;
const DAY = 24 * 3600_000;
/** Pictures of up to 256 KB stand in a message, and a few of them at once. */
const MESSAGE_BYTES = 1024 ** 2;

/** Settings of each topic, https://kafka.apache.org/documentation/#topicconfigs. */
const CONFIGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
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
  return TOPIC_NAMES.map((name) => ({
    name,
    partitions: name === TOPICS.dlq ? 1 : partitions,
    replicas,
    configs: { "retention.ms": String(7 * DAY), "max.message.bytes": String(MESSAGE_BYTES), ...CONFIGS[name] },
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
