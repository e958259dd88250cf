// What qedit asks of a Kafka client. Another client takes the place of the one in platformatic-client.ts by implementing this.

/** Header names and values, in their order; a name may stand there twice. */
export type KafkaHeaders = readonly (readonly [name: string, value: Buffer])[];

/** A message as it was read. */
export interface KafkaMessage {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Milliseconds since the epoch. */
  readonly timestamp: bigint;
  readonly key: Buffer | undefined;
  readonly value: Buffer;
  readonly headers: KafkaHeaders;
}

/** A message to write. */
export interface ProducedMessage {
  readonly topic: string;
  readonly key?: Buffer | string | undefined;
  readonly value: Buffer;
  readonly headers?: KafkaHeaders;
}

/** A member of a consumer group. */
export interface KafkaConsumer {
  /** Messages of the partitions that the group has given to this member, one at a time. Throws when the connection or the membership is lost. */
  readonly messages: AsyncIterable<KafkaMessage>;
  /** Whether the partition of a message still belongs to this member: after a rebalance another one does its messages. */
  readonly owns: (message: Pick<KafkaMessage, "topic" | "partition">) => boolean;
  /** Says that all messages of a partition before `next` are done. */
  readonly commit: (topic: string, partition: number, next: bigint) => Promise<void>;
  /** Ends `messages`; commits are still taken. */
  readonly stop: () => Promise<void>;
  /** Leaves the group. */
  readonly close: () => Promise<void>;
}

/** A topic as the brokers describe it. */
export interface TopicFacts {
  readonly name: string;
  readonly partitions: number;
  readonly replicas: number;
}

/** A topic to create. */
export interface NewTopic {
  readonly name: string;
  readonly partitions: number;
  readonly replicas: number;
  readonly configs: Readonly<Record<string, string>>;
}

/** A connection to the brokers; whoever opened it closes it. Every method throws QEDIT_E_NETWORK when the brokers do not answer in time. */
export interface KafkaClient {
  /** Resolves when every in-sync replica has the message. Requests go to the partitions of their topic in turn, all others by their key. Throws QEDIT_E_USAGE for a message that is larger than the topic takes. */
  readonly produce: (message: ProducedMessage) => Promise<void>;
  /**
   * Joins a group. Reads on where the group has committed, a new group from the beginning. A member with a name is a static one: it keeps its partitions while it
   * is away for less than a session.
   */
  readonly join: (group: string, topics: readonly string[], member?: string) => Promise<KafkaConsumer>;
  /** Messages of all partitions of a topic from the given offsets on, without a group; ends when the signal is aborted. */
  readonly read: (topic: string, from: readonly bigint[], signal: AbortSignal) => AsyncIterable<KafkaMessage>;
  /** Of each partition of a topic: the oldest offset that is kept, and the one that the next message gets. */
  readonly offsets: (topic: string) => Promise<readonly { readonly first: bigint; readonly next: bigint }[]>;
  readonly topicNames: () => Promise<readonly string[]>;
  readonly describe: (names: readonly string[]) => Promise<readonly TopicFacts[]>;
  /** Creates a topic; whether it was not there. */
  readonly create: (topic: NewTopic) => Promise<boolean>;
  readonly close: () => Promise<void>;
}
