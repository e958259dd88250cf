// The Kafka client: @platformatic/kafka, an optional package that is loaded when it is used.
import { randomInt, randomUUID } from "node:crypto";
import type { Admin, Consumer, Message, MessagesStream, Producer } from "@platformatic/kafka";
import { param, QeditError } from "../../std/errors.js";
import type { KafkaClient, KafkaConsumer, KafkaHeaders, KafkaMessage } from "./kafka-port.js";
import { optionalPackage } from "./optional-package.js";
import { partitionOf } from "./spread.js";
import { asStaticMember } from "./static-member.js";

type Library = typeof import("@platformatic/kafka");
type RawMessage = Message<Buffer, Buffer, Buffer, Buffer>;
type RawConsumer = Consumer<Buffer, Buffer, Buffer, Buffer>;
type RawStream = MessagesStream<Buffer, Buffer, Buffer, Buffer>;

/** Milliseconds that a call may take: the client itself waits without end for a broker that died while it created a topic. */
const ANSWER_WITHIN = 20_000;
/** Heartbeats that may fail in a row; the client itself may never join again after that. */
const FAILED_HEARTBEATS = 3;
/** Longest wait of a fetch for a message; a stop waits for it. */
const FETCH_WAIT = 1000;

/**
 * A member that lost a partition goes on with the batch that it has fetched, and does its messages twice: a fetch brings as little as it can.
 * Messages of any size still arrive.
 */
const ONE_AT_A_TIME = { highWaterMark: 1, maxBytes: 1, maxBytesPerPartition: 1, minBytes: 1, maxWaitTime: FETCH_WAIT };

/**
 * Their order means nothing, and each takes long: by their keys some workers would have a fifth more than others.
 */
const REQUESTS = /\.request\.v\d+$/;

const BROKER = /^(?:\[[0-9a-f:.]+\]|[\w.-]+):\d{1,5}$/i;

/** Connects to brokers, `HOST:PORT,HOST:PORT`. Throws QEDIT_E_USAGE for what is no address, or when the package is missing. */
export async function openKafka(brokers: string): Promise<KafkaClient> {
  const bootstrapBrokers = brokers.split(",").map((each) => each.trim());
  const wrong = bootstrapBrokers.find((each) => !BROKER.test(each));
  if (wrong !== undefined)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use "${wrong}" for ${param("kafka")}: HOST:PORT is wanted`, {
      hint: `Write, for example, ${param("kafka", "broker-1:9092,broker-2:9092")}`,
      parameter: "kafka",
    });
  const library = await optionalPackage("@platformatic/kafka", () => import("@platformatic/kafka"));
  return new PlatformaticClient(library, { clientId: "qedit", bootstrapBrokers, retries: 2, retryDelay: 500 }, brokers);
}

class PlatformaticClient implements KafkaClient {
  readonly #producer: Producer<Buffer, Buffer, Buffer, Buffer>;
  readonly #admin: Admin;
  /** Many clients send one request each: they do not begin with the same partition. */
  #turn = randomInt(2 ** 20);

  constructor(
    private readonly library: Library,
    private readonly options: {
      clientId: string;
      bootstrapBrokers: string[];
      retries: number;
      retryDelay: number;
    },
    private readonly brokers: string,
  ) {
    this.#producer = new library.Producer({ ...options, acks: library.ProduceAcks.ALL });
    this.#admin = new library.Admin(options);
    // Failed heartbeats and reconnections come as errors of calls as well.
    this.#admin.on("error", () => {});
    this.#producer.on("error", () => {});
  }

  readonly produce: KafkaClient["produce"] = async ({ topic, key, value, headers = [] }) => {
    const message = {
      ...{ topic, value },
      ...(key !== undefined && { key: Buffer.from(key) }),
      ...(REQUESTS.test(topic) && { partition: await this.#nextPartition(topic) }),
      headers: new Map(headers.map(([name, content]) => [Buffer.from(name), content])),
    };
    try {
      await this.#inTime(this.#producer.send({ messages: [message] }), `write to ${topic}`);
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot write ${value.length} bytes to ${topic}: it takes no message so large`,
        {
          hint: "Raise max.message.bytes of the topic, or give the pictures by reference",
        },
      );
    }
  };

  readonly join: KafkaClient["join"] = async (group, topics, member) => {
    const consumer = this.#consumer(group, { groupProtocol: "consumer" });
    if (member !== undefined) asStaticMember(consumer, member);
    const stream = await this.#inTime(
      consumer.consume({
        topics: [...topics],
        mode: "committed",
        fallbackMode: "earliest",
        ...ONE_AT_A_TIME,
        autocommit: false,
      }),
      `join the group ${group}`,
    ).catch(async (error: unknown) => {
      await closed(consumer).catch(() => {});
      throw error;
    });
    watchHeartbeats(consumer, stream);
    return {
      messages: this.#messagesOf(stream),
      owns: ({ topic, partition }) =>
        consumer.assignments?.some((each) => each.topic === topic && each.partitions.includes(partition)) === true,
      commit: (topic, partition, next) =>
        this.#inTime(
          consumer.commit({ offsets: [{ topic, partition, offset: next, leaderEpoch: -1 }] }),
          `commit to ${topic}`,
        ),
      stop: () => stream.close(),
      close: () => this.#inTime(closed(consumer), "leave the group"),
    } satisfies KafkaConsumer;
  };

  async *read(topic: string, from: readonly bigint[], signal: AbortSignal): AsyncIterable<KafkaMessage> {
    // The client reads only as a member: of a group of its own, which nothing is committed to.
    const consumer = this.#consumer(`qedit-reader-${randomUUID()}`, { groupProtocol: "consumer" });
    try {
      const offsets = from.map((offset, partition) => ({ topic, partition, offset }));
      const stream = await this.#inTime(
        consumer.consume({ topics: [topic], mode: "manual", offsets, maxWaitTime: FETCH_WAIT, autocommit: false }),
        `read ${topic}`,
      );
      const stop = () => void stream.close().catch(() => {});
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      yield* this.#messagesOf(stream);
    } finally {
      await closed(consumer).catch(() => {});
    }
  }

  readonly offsets: KafkaClient["offsets"] = async (topic) => {
    // It never joins: a member of the newer protocol would say goodbye, and wait for the answer.
    const consumer = this.#consumer(`qedit-reader-${randomUUID()}`, {});
    try {
      const at = async (timestamp: bigint) =>
        (await this.#inTime(consumer.listOffsets({ topics: [topic], timestamp }), `read ${topic}`)).get(topic) ?? [];
      const { EARLIEST, LATEST } = this.library.ListOffsetTimestamps;
      const [first, next] = [await at(EARLIEST), await at(LATEST)];
      return next.map((offset, partition) => ({ first: first[partition]!, next: offset }));
    } finally {
      await closed(consumer).catch(() => {});
    }
  };

  readonly topicNames: KafkaClient["topicNames"] = () => this.#inTime(this.#admin.listTopics({}), "list the topics");

  readonly describe: KafkaClient["describe"] = async (names) => {
    const { topics } = await this.#inTime(
      this.#admin.metadata({ topics: [...names], forceUpdate: true }),
      "describe the topics",
    );
    return names.map((name) => {
      const { partitions } = topics.get(name)!;
      return { name, partitions: partitions.length, replicas: partitions[0]?.replicas.length ?? 0 };
    });
  };

  readonly create: KafkaClient["create"] = async ({ name, partitions, replicas, configs }) => {
    const creation = this.#admin.createTopics({
      ...{ topics: [name], partitions, replicas },
      configs: Object.entries(configs).map(([each, value]) => ({ name: each, value })),
    });
    try {
      await this.#inTime(creation, `create the topic ${name}`);
      return true;
    } catch (error) {
      // The list of topics may be a moment old, and another machine may create them too.
      if (/TOPIC_ALREADY_EXISTS/.test(detailOf(error))) return false;
      throw error;
    }
  };

  readonly close: KafkaClient["close"] = async () => {
    await this.#inTime(this.#producer.close(), "close").catch(() => {});
    await this.#inTime(this.#admin.close(), "close").catch(() => {});
  };

  // Sessions are left to the brokers: this protocol refuses the timeouts of the older one.
  #consumer(groupId: string, protocol: { groupProtocol?: "consumer" }): RawConsumer {
    const consumer = new this.library.Consumer({
      ...this.options,
      ...protocol,
      groupId,
      autocommit: false,
    }) as RawConsumer;
    consumer.on("error", () => {});
    committedAsNext(consumer);
    return consumer;
  }

  // Metadata are kept for some minutes by the client itself.
  async #nextPartition(topic: string): Promise<number> {
    const { topics } = await this.#inTime(this.#admin.metadata({ topics: [topic] }), `write to ${topic}`);
    return partitionOf(this.#turn++, topics.get(topic)!.partitions.length);
  }

  async *#messagesOf(stream: RawStream): AsyncIterable<KafkaMessage> {
    try {
      for await (const message of stream) yield messageOf(message);
    } catch (error) {
      throw this.#failure("read the messages", error);
    }
  }

  async #inTime<T>(answer: Promise<T>, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_WITHIN / 1000} s`)), ANSWER_WITHIN);
    });
    answer.catch(() => {});
    try {
      return await Promise.race([answer, late]);
    } catch (error) {
      throw isTooLarge(error) ? error : this.#failure(what, error);
    } finally {
      clearTimeout(timer);
    }
  }

  #failure(what: string, error: unknown): QeditError {
    if (error instanceof QeditError) return error;
    return new QeditError("QEDIT_E_NETWORK", `Cannot ${what} at ${this.brokers}: ${reasonOf(error)}`, {
      hint: `\`qedit kafka topics list --kafka ${this.brokers}\` says whether the brokers answer`,
      cause: error,
    });
  }
}

/**
 * Kafka's convention is to commit the offset of the next message, and tools that measure lag rely on it. The client's streams go on at the committed offset
 * plus one, so that it would skip a message: what it reads of the group is one less.
 */
function committedAsNext(consumer: RawConsumer): void {
  const list = consumer.listCommittedOffsets.bind(consumer) as (
    options: object,
    callback: (error: Error | null, offsets: Map<string, bigint[]> | undefined) => void,
  ) => void;
  const less = (offsets: bigint[]) => offsets.map((offset) => (offset > 0n ? offset - 1n : -1n));
  consumer.listCommittedOffsets = ((options: object, callback: Parameters<typeof list>[1]) =>
    list(options, (error, offsets) => {
      callback(error, offsets && new Map([...offsets].map(([topic, each]) => [topic, less(each)])));
    })) as RawConsumer["listCommittedOffsets"];
}

// A member whose heartbeats fail is thrown out of the group, and would go on reading without knowing.
function watchHeartbeats(consumer: RawConsumer, stream: RawStream): void {
  let failed = 0;
  consumer.on("consumer:heartbeat:end", () => (failed = 0));
  consumer.on("consumer:heartbeat:error", ({ error }: { error: Error }) => {
    failed += 1;
    if (failed >= FAILED_HEARTBEATS) stream.destroy(error);
  });
}

// The overload with a callback hides the other one.
function closed(consumer: RawConsumer): Promise<void> {
  return (consumer as { close(force: boolean): Promise<void> }).close(true);
}

function messageOf({ topic, partition, offset, timestamp, key, value, headers }: RawMessage): KafkaMessage {
  const named: KafkaHeaders = [...headers].map(([name, content]) => [
    name.toString("utf8"),
    content ?? Buffer.alloc(0),
  ]);
  // A tombstone has no value.
  return { topic, partition, offset, timestamp, key, value: value ?? Buffer.alloc(0), headers: named };
}

function isTooLarge(error: unknown): boolean {
  return /MESSAGE_TOO_LARGE|RECORD_LIST_TOO_LARGE/.test(detailOf(error));
}

function reasonOf(error: unknown): string {
  const refusals = [...detailOf(error).matchAll(/ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ECONNRESET|ETIMEDOUT/g)];
  if (refusals.length > 0) return `no broker is reached (${refusals[0]})`;
  return detailOf(error).split("\n")[0]!;
}

// Errors of the client hold the ones that caused them.
function detailOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { errors = [], cause } = error as Error & { errors?: readonly unknown[] };
  const inner = [...errors, ...(cause === undefined ? [] : [cause])].map(detailOf);
  return [...inner, `${error.message} ${(error as Error & { apiId?: string }).apiId ?? ""}`.trim()].join("\n");
}
