// qedit kafka topics: creates the topics of qedit, and shows them.
import { defaulted, optional } from "../../../edit/parameters/parameter.js";
import { number } from "../../../edit/parameters/parameter-kinds.js";
import type { KafkaClient } from "../../../server/kafka/kafka-port.js";
import { createTopics, TOPIC_NAMES } from "../../../server/kafka/kafka-topics.js";
import { openKafka } from "../../../server/kafka/platformatic-client.js";
import { registerSchemas } from "../../../server/kafka/schema-registry.js";
import { defineCommand } from "../../command.js";
import { kafkaOptions, schemaRegistry } from "../../settings/kafka-options.js";
import { registeredLine } from "./schemas.js";

/** So many workers can share the requests. */
const PARTITIONS = 16;
/** Kafka's word for the replication factor that the brokers are set to. */
const OF_THE_BROKERS = -1;

const create = defineCommand({
  examples: [
    "qedit kafka topics create --kafka localhost:9092",
    "qedit kafka topics create --kafka broker-1:9092,broker-2:9092 --partitions 64 --replicas 3",
    "qedit kafka topics create --kafka localhost:9092 --schema-registry http://registry:8081",
  ],
  options: {
    ...kafkaOptions,
    partitions: defaulted(number({ minimum: 1, maximum: 10_000, whole: true }), PARTITIONS, {
      summary: "partitions of the requests: at most so many workers are busy at once",
      group: "Server",
      scope: "user",
      placeholder: "<count>",
    }),
    replicas: optional(number({ minimum: 1, maximum: 100, whole: true }), {
      summary: "brokers that keep each message",
      group: "Server",
      scope: "user",
      placeholder: "<count>",
      initialText: "what the brokers are set to",
    }),
    schemaRegistry,
  },
  async perform({ settings: { kafka, partitions, replicas = OF_THE_BROKERS, schemaRegistry: registry } }, terminal) {
    await withKafka(kafka!, async (client) => {
      // Whoever waits for the topics finds the schemas there.
      const schemas = registry === undefined ? [] : await registerSchemas(registry);
      const topics = await createTopics(client, { partitions, replicas });
      const records = topics.map(({ name, isNew }) => ({ name, created: isNew }));
      terminal.result({ topics: records, ...(registry !== undefined && { schemas }) }, [
        ...schemas.map(registeredLine),
        ...topics.map(({ name, isNew }) => `${name}  ${isNew ? "created" : "there"}`),
      ]);
    });
  },
});

const list = defineCommand({
  examples: ["qedit kafka topics list --kafka localhost:9092"],
  options: kafkaOptions,
  async perform({ settings: { kafka } }, terminal) {
    await withKafka(kafka!, async (client) => {
      const names = await ownTopics(client);
      terminal.result({ topics: names }, names);
    });
  },
});

const describe = defineCommand({
  examples: ["qedit kafka topics describe --kafka localhost:9092"],
  options: kafkaOptions,
  async perform({ settings: { kafka } }, terminal) {
    await withKafka(kafka!, async (client) => {
      const records = [];
      for (const { name, partitions, replicas } of await client.describe(await ownTopics(client))) {
        const offsets = await client.offsets(name);
        const messages = offsets.reduce((sum, { first, next }) => sum + Number(next - first), 0);
        records.push({ name, partitions, replicas, messages });
      }
      terminal.result(
        { topics: records },
        records.map(
          ({ name, partitions, replicas, messages }) =>
            `${name.padEnd(32)}  ${partitions} partitions  ${replicas} replicas  ${messages} messages`,
        ),
      );
    });
  },
});

/** `qedit kafka topics VERB`. */
export const topics = defineCommand({
  examples: ["qedit kafka topics create --kafka localhost:9092", "qedit kafka topics describe --kafka localhost:9092"],
  options: {},
  commands: [
    {
      name: "create",
      summary: "Create the topics that are missing; with a registry, register their schemas first",
      load: async () => create,
    },
    { name: "list", summary: "List the topics of qedit that are there", load: async () => list },
    { name: "describe", summary: "Show partitions, replicas and messages of each topic", load: async () => describe },
  ],
});

async function ownTopics(client: KafkaClient): Promise<readonly string[]> {
  const there = new Set(await client.topicNames());
  return TOPIC_NAMES.filter((name) => there.has(name));
}

/** Opens a connection for one use. */
export async function withKafka(brokers: string, use: (client: KafkaClient) => Promise<void>): Promise<void> {
  const client = await openKafka(brokers);
  try {
    await use(client);
  } finally {
    await client.close();
  }
}
