// The Kafka door of a server: it takes requests, and moves those that wait for another try.
import type { EditServer } from "../edit-server.js";
import { serverStopping } from "../job-runner.js";
import type { Log } from "../log.js";
import { openAvroCodec } from "./avro-codec.js";
import { ClaimStore } from "./claim-store.js";
import { HEADERS } from "./failed-messages.js";
import { JobReports } from "./job-reports.js";
import type { KafkaClient, ProducedMessage } from "./kafka-port.js";
import { checkTopics, requestTopic, TOPICS, topicsOf, WORK, type Work } from "./kafka-topics.js";
import { KafkaWorker } from "./kafka-worker.js";
import { takeMessages } from "./message-loop.js";
import { openKafka } from "./platformatic-client.js";
import { moveRetries } from "./retries.js";
import { StageStore } from "./stage-store.js";
import { StageWorker } from "./stage-worker.js";
import { openStoreFiles } from "./store-files.js";
import { Turns } from "./turns.js";

/** The settings of the door. */
export interface KafkaSettings {
  readonly brokers: string;
  /** Workers of one group share the requests. */
  readonly group: string;
  /** Name of this worker among them, if it is a static member of the group. */
  readonly member?: string | undefined;
  /** The folder that clients and workers share, or `s3://BUCKET/PREFIX`. */
  readonly store: string;
  /** URL of a schema registry, whose framing is used then. */
  readonly schemaRegistry?: string | undefined;
  /** Milliseconds before each further try. */
  readonly retryDelays: readonly number[];
  /** What it does: whole edits, or single stages. */
  readonly stages: readonly Work[];
}

/** The open door. */
export interface KafkaDoor {
  /** Takes requests from now on. */
  readonly start: () => void;
  /** Takes nothing more. */
  readonly stop: () => void;
  /** Waits for what is in hand; a single stage stops after `grace` milliseconds, and is left to another worker. */
  readonly drain: (grace: number) => Promise<void>;
  /** Waits for what is in hand, and leaves the groups. */
  readonly close: () => Promise<void>;
}

/** Opens the door. Throws QEDIT_E_USAGE when a topic or a package is missing, QEDIT_E_NETWORK when no broker answers. */
export async function openKafkaDoor(settings: KafkaSettings, server: EditServer, log: Log): Promise<KafkaDoor> {
  const { brokers, group, member, retryDelays, stages } = settings;
  const codec = await openAvroCodec(settings.schemaRegistry);
  const files = await openStoreFiles(settings.store);
  const client = await openKafka(brokers);
  try {
    await checkTopics(client, topicsOf(stages), brokers);
  } catch (error) {
    await client.close();
    throw error;
  }
  const stopping = new AbortController();
  const stop = stopping.signal;
  const store = new ClaimStore(files, server.limits.body);
  const bury = (message: ProducedMessage) => buried(message, { client, store });
  const reports = new JobReports({ client, bury, codec, retryDelays, log });
  const ending = new AbortController();
  const parts = { client, codec, store, server, reports, log };
  const edits = new KafkaWorker({ ...parts, stop });
  const artifacts = new StageStore(store);
  const workerOf = (work: Work) =>
    work === "run" ? edits : new StageWorker(work, { ...parts, artifacts, ending: ending.signal });
  const devices = server.service.devices.length;
  const turns = new Turns(devices);
  let loops: readonly Promise<void>[] = [];
  const taken = (work: Work) => {
    const worker = workerOf(work);
    return takeMessages({
      ...{ client, member, log, stop, topic: requestTopic(work), group: groupOf(work, group) },
      // Single stages are done on the first device.
      atOnce: work === "run" ? devices : 1,
      handle(message, isOurs, computed) {
        const inTurn = worker.begin(message);
        return turns.take(WORK.indexOf(work), async (endTurn) => {
          const free = () => {
            endTurn();
            computed();
          };
          return !stop.aborted && isOurs() && inTurn(isOurs, free);
        });
      },
    });
  };
  return {
    start() {
      loops = [...stages.map(taken), moveRetries({ client, group, member, log, stop, produce: bury })];
      if (devices > 1 && stages.some((work) => work !== "run"))
        log("warn", `single stages are done on the first of ${devices} devices: start a worker for each`);
      log("info", `taking requests of ${stages.map(requestTopic).join(", ")} at ${brokers} as ${group}`, {
        kafka: brokers,
        group,
        store: settings.store,
      });
    },
    stop: () => stopping.abort(),
    async drain(grace) {
      stopping.abort();
      const late = setTimeout(() => ending.abort(serverStopping()), grace);
      await Promise.all(loops);
      clearTimeout(late);
    },
    async close() {
      stopping.abort();
      await Promise.all(loops);
      await client.close();
    },
  };
}

// A group for the requests of each stage: those of whole edits have the name itself.
function groupOf(work: Work, group: string): string {
  return work === "run" ? group : `${group}-${work}`;
}

// What is too large for the topic goes there without its bytes: they are in the store.
async function buried(
  message: ProducedMessage,
  { client, store }: { client: KafkaClient; store: ClaimStore },
): Promise<void> {
  try {
    await client.produce(message);
  } catch (error) {
    if ((error as { code?: string }).code !== "QEDIT_E_USAGE") throw error;
    const { uri, sha256 } = await store.put(message.value);
    const facts = { [HEADERS.valueUri]: uri, "x-value-sha256": sha256, "x-value-bytes": String(message.value.length) };
    const headers = Object.entries(facts).map(([name, text]) => [name, Buffer.from(text)] as const);
    await client.produce({
      ...message,
      topic: TOPICS.dlq,
      value: Buffer.alloc(0),
      headers: [...(message.headers ?? []), ...headers],
    });
  }
}
