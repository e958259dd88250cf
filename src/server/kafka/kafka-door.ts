// The Kafka door of a server: it takes requests, and moves those that wait for another try.
import { createHash } from "node:crypto";
import type { EditServer } from "../edit-server.js";
import type { Log } from "../log.js";
import { openAvroCodec } from "./avro-codec.js";
import { ClaimStore } from "./claim-store.js";
import { HEADERS } from "./failed-messages.js";
import type { KafkaClient, ProducedMessage } from "./kafka-port.js";
import { checkTopics, TOPICS } from "./kafka-topics.js";
import { KafkaWorker } from "./kafka-worker.js";
import { takeMessages } from "./message-loop.js";
import { openKafka } from "./platformatic-client.js";
import { moveRetries } from "./retries.js";
import { openStoreFiles } from "./store-files.js";

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
}

/** The open door. */
export interface KafkaDoor {
  /** Takes requests from now on. */
  readonly start: () => void;
  /** Takes nothing more. */
  readonly stop: () => void;
  /** Waits for what is in hand, and leaves the group. */
  readonly close: () => Promise<void>;
}

/** Opens the door. Throws QEDIT_E_USAGE when a topic or a package is missing, QEDIT_E_NETWORK when no broker answers. */
export async function openKafkaDoor(settings: KafkaSettings, server: EditServer, log: Log): Promise<KafkaDoor> {
  const { brokers, group, member, retryDelays } = settings;
  const codec = await openAvroCodec(settings.schemaRegistry);
  const files = await openStoreFiles(settings.store);
  const client = await openKafka(brokers);
  try {
    await checkTopics(client, Object.values(TOPICS), brokers);
  } catch (error) {
    await client.close();
    throw error;
  }
  const stopping = new AbortController();
  const stop = stopping.signal;
  const store = new ClaimStore(files, server.limits.body);
  const bury = (message: ProducedMessage) => buried(message, { client, store });
  const worker = new KafkaWorker({ client, bury, codec, store, server, retryDelays, log, stop });
  let loops: readonly Promise<void>[] = [];
  return {
    start() {
      const shared = { client, group, member, log, stop };
      const atOnce = server.service.devices.length;
      const handle = worker.handle.bind(worker);
      loops = [
        takeMessages({ ...shared, topic: TOPICS.request, atOnce, handle }),
        moveRetries({ ...shared, produce: bury }),
      ];
      log("info", `taking requests of ${TOPICS.request} at ${brokers} as ${group}`, {
        kafka: brokers,
        group,
        store: settings.store,
      });
    },
    stop: () => stopping.abort(),
    async close() {
      stopping.abort();
      await Promise.all(loops);
      await client.close();
    },
  };
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
    const { uri } = await store.put(message.value);
    const sha256 = createHash("sha256").update(message.value).digest("hex");
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
