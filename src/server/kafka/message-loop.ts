// Takes the messages of a topic as a member of a group, some at a time, and commits each when it and those before it are done. When the connection or
// the membership is lost, it joins again: what was not committed comes again, here or elsewhere.
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../log.js";
import type { KafkaClient, KafkaConsumer, KafkaMessage } from "./kafka-port.js";

/** How messages are taken. */
export interface LoopOptions {
  readonly client: Pick<KafkaClient, "join">;
  readonly group: string;
  readonly topic: string;
  /** Name of a static member of the group; undefined: none. */
  readonly member?: string | undefined;
  /** Messages at once. One more is begun meanwhile, and as many may be coming to their end. */
  readonly atOnce: number;
  readonly log: Log;
  /** Aborted when nothing more is taken; what is in hand is waited for. */
  readonly stop: AbortSignal;
  /**
   * Does a message; false leaves it to whoever gets it next. `isOurs` is asked before an answer is written. It calls `computed` when only storing and
   * answering are left: a further message is then begun. Throws when the brokers cannot be reached.
   */
  readonly handle: (message: KafkaMessage, isOurs: () => boolean, computed: () => void) => Promise<boolean>;
}

/** Milliseconds before the group is joined again. */
const JOIN_AGAIN = 1000;
/** Messages that are remembered as done: after a rebalance they may come again. */
const REMEMBERED = 1000;

/** Takes messages until it is stopped. */
export async function takeMessages(options: LoopOptions): Promise<void> {
  const { client, group, topic, member, log, stop } = options;
  const done = new Set<string>();
  while (!stop.aborted) {
    try {
      const consumer = await client.join(group, [topic], member === undefined ? undefined : `${member}.${topic}`);
      try {
        await takeAsMember(consumer, done, options);
      } finally {
        await consumer.close().catch((error: Error) => log("warn", error.message));
      }
    } catch (error) {
      if (stop.aborted) return;
      log("warn", `${(error as Error).message}: joining ${group} again`);
      await delay(JOIN_AGAIN, undefined, { signal: stop }).catch(() => {});
    }
  }
}

async function takeAsMember(
  consumer: KafkaConsumer,
  done: Set<string>,
  { atOnce, stop, handle }: LoopOptions,
): Promise<void> {
  const end = () => void consumer.stop().catch(() => {});
  stop.addEventListener("abort", end, { once: true });
  if (stop.aborted) end();
  const offsets = new Offsets();
  const running = new Set<Promise<void>>();
  /** Those of them that are not computed yet. */
  const uncomputed = new Set<Promise<void>>();
  /** The next message is begun before the last one is committed: if that fails, the last one comes again and is only answered. */
  const committing = new Set<Promise<void>>();
  const faults: unknown[] = [];
  const work = async (message: KafkaMessage, computed: () => void) => {
    const isOurs = () => consumer.owns(message);
    if (!(await handle(message, isOurs, computed)) || !isOurs()) return offsets.leave(message);
    const next = offsets.done(message);
    const committed = next === undefined ? undefined : consumer.commit(message.topic, message.partition, next);
    const commit: Promise<void> = Promise.resolve(committed)
      .then(() => {
        done.add(nameOf(message));
        for (const oldest of done) if (done.size > REMEMBERED) done.delete(oldest);
      })
      .catch((error: unknown) => void faults.push(error))
      .finally(() => committing.delete(commit));
    committing.add(commit);
  };
  try {
    for await (const message of consumer.messages) {
      if (stop.aborted || faults.length > 0) break;
      if (!consumer.owns(message) || done.has(nameOf(message)) || !offsets.begin(message)) continue;
      const { promise: place, resolve: computed } = withResolvers();
      uncomputed.add(place);
      void place.then(() => uncomputed.delete(place));
      const taken: Promise<void> = work(message, computed)
        .catch((error: unknown) => void faults.push(error))
        .finally(() => {
          computed();
          running.delete(taken);
        });
      running.add(taken);
      if (uncomputed.size > atOnce) await Promise.race(uncomputed);
      if (running.size > 2 * atOnce) await Promise.race(running);
      if (faults.length > 0) break;
    }
  } finally {
    stop.removeEventListener("abort", end);
    await Promise.all(running);
    await Promise.all(committing);
  }
  if (faults.length > 0) throw faults[0];
}

// Promise.withResolvers, which Node 20 does not have.
function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

// The timestamp tells a message from another one at its place in a topic that was made again.
function nameOf({ topic, partition, offset, timestamp }: KafkaMessage): string {
  return `${topic}:${partition}:${offset}:${timestamp}`;
}

/** Which offsets of each partition are in hand: only what has nothing undone before it is committed. */
class Offsets {
  readonly #partitions = new Map<string, { readonly open: Set<bigint>; highest: bigint }>();

  /** Whether it was not in hand yet. */
  begin({ topic, partition, offset }: KafkaMessage): boolean {
    const key = `${topic}:${partition}`;
    const of = this.#partitions.get(key) ?? { open: new Set<bigint>(), highest: offset };
    this.#partitions.set(key, of);
    if (of.open.has(offset)) return false;
    of.open.add(offset);
    if (offset > of.highest) of.highest = offset;
    return true;
  }

  /** The next offset to commit; undefined while an earlier one is in hand. */
  done({ topic, partition, offset }: KafkaMessage): bigint | undefined {
    const of = this.#partitions.get(`${topic}:${partition}`);
    if (of === undefined) return undefined;
    const { open, highest } = of;
    open.delete(offset);
    const lowest = [...open].reduce((least, each) => (each < least ? each : least), highest + 1n);
    return lowest > offset ? lowest : undefined;
  }
  /** Forgets a partition that comes again from its last commit on. */
  leave({ topic, partition }: KafkaMessage): void {
    this.#partitions.delete(`${topic}:${partition}`);
  }
}
