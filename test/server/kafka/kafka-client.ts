// A client of qedit over Kafka, as tests need it: sends requests, waits for answers and dead letters.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { type AvroCodec, openAvroCodec } from "../../../src/server/kafka/avro-codec.js";
import { avroSchemas } from "../../../src/server/kafka/avro-schemas.js";
import type { RunRequest, RunResponse, SentPicture } from "../../../src/server/kafka/kafka-messages.js";
import type { KafkaClient, KafkaHeaders, KafkaMessage } from "../../../src/server/kafka/kafka-port.js";
import { createTopics, TOPIC_NAMES, TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { openKafka } from "../../../src/server/kafka/platformatic-client.js";

/** Small enough for many in a test. */
export const SMALL = { prompt: "make it sepia", megapixels: 0.005, steps: 2, seed: "7" };

/** Partitions of the requests: more than workers in any test. */
const PARTITIONS = 6;

/** The client. */
export interface TestClient {
  readonly kafka: KafkaClient;
  readonly codec: AvroCodec;
  readonly send: (message: RunRequest | Buffer, headers?: KafkaHeaders) => Promise<void>;
  /** The first answer to each job that was sent since the client was opened. */
  readonly answers: (ids: readonly string[]) => Promise<ReadonlyMap<string, RunResponse>>;
  /** All messages of a topic since then, until `enough`. */
  readonly messages: (
    topic: string,
    enough: (all: readonly KafkaMessage[]) => boolean | Promise<boolean>,
  ) => Promise<readonly KafkaMessage[]>;
  readonly close: () => Promise<void>;
}

/** Opens the client, and creates the topics. */
export async function openTestClient(brokers: string): Promise<TestClient> {
  const [kafka, codec] = [await openKafka(brokers), await openAvroCodec()];
  await createTopics(kafka, { partitions: PARTITIONS, replicas: 1 });
  const starts = new Map<string, readonly bigint[]>();
  for (const topic of TOPIC_NAMES)
    starts.set(
      topic,
      (await kafka.offsets(topic)).map(({ next }) => next),
    );
  const messages: TestClient["messages"] = async (topic, enough) => {
    const stop = new AbortController();
    const all: KafkaMessage[] = [];
    for await (const message of kafka.read(topic, starts.get(topic)!, stop.signal)) {
      all.push(message);
      if (await enough(all)) break;
    }
    stop.abort();
    return all;
  };
  return {
    ...{ kafka, codec, messages },
    async send(message, headers = []) {
      const isBytes = Buffer.isBuffer(message);
      const key = isBytes ? "poison" : message.envelope.job_id;
      const value = isBytes ? message : codec.encode("run.request", message);
      await kafka.produce({ topic: TOPICS.request, key, value, headers });
    },
    async answers(ids) {
      const found = new Map<string, RunResponse>();
      await messages(TOPICS.response, async (all) => {
        const response = await codec.decode("run.response", all.at(-1)!.value);
        const id = response.envelope.job_id;
        if (ids.includes(id) && !found.has(id)) found.set(id, response);
        return found.size === ids.length;
      });
      return found;
    },
    close: () => kafka.close(),
  };
}

const { fields } = avroSchemas()["run.request"] as { fields: { name: string; type: { fields: { name: string }[] } }[] };
const NOTHING = Object.fromEntries(
  fields.find(({ name }) => name === "parameters")!.type.fields.map(({ name }) => [name, null]),
);

/** A request with pictures by their paths, or as they go into the message. */
export function requestOf(
  id: string,
  images: readonly (string | SentPicture)[],
  parameters: Readonly<Record<string, unknown>>,
): RunRequest {
  return {
    envelope: {
      ...{ job_id: id, workflow: ["run"], cursor: 0, attempt: 1, created_at: Date.now() },
      ...{ traceparent: null, reply_to: null },
    },
    images: images.map((each) =>
      typeof each === "string" ? { name: basename(each), data: readFileSync(each) } : each,
    ),
    mask: null,
    parameters: { ...NOTHING, ...parameters },
  };
}

/** The bytes of the picture of an answer, inside it or in the store. */
export function pictureOf({ result, error }: RunResponse): Buffer {
  if (result === null) throw new Error(`no picture: ${JSON.stringify(error)}`);
  const { data } = result.picture;
  return data instanceof Uint8Array ? Buffer.from(data) : readFileSync(new URL(data.uri));
}
