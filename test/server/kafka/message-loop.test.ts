// Which messages of a topic are in hand at once, and what is committed, with a member of a group that is made of an array.
import { expect, test } from "vitest";
import type { KafkaConsumer, KafkaMessage } from "../../../src/server/kafka/kafka-port.js";
import { takeMessages } from "../../../src/server/kafka/message-loop.js";

interface InHand {
  readonly computed: () => void;
  /** Ends it; false: it is left undone. */
  readonly end: (isDone: boolean) => void;
}

/** Takes four messages of one partition, one at once; what was begun is by offset. */
function taken() {
  const begun: InHand[] = [];
  const commits: bigint[] = [];
  const stop = new AbortController();
  let leave!: () => void;
  const left = new Promise<void>((resolve) => (leave = resolve));
  async function* messages(): AsyncIterable<KafkaMessage> {
    for (const offset of [0n, 1n, 2n, 3n])
      yield {
        topic: "t",
        partition: 0,
        offset,
        timestamp: offset,
        key: undefined,
        value: Buffer.alloc(0),
        headers: [],
      };
    await left;
  }
  const consumer: KafkaConsumer = {
    messages: messages(),
    owns: () => true,
    commit: async (_topic, _partition, next) => void commits.push(next),
    stop: async () => leave(),
    close: async () => {},
  };
  const ended = takeMessages({
    ...{ client: { join: async () => consumer }, group: "g", topic: "t", atOnce: 1 },
    ...{ log: () => {}, stop: stop.signal },
    handle: (_message, _isOurs, computed) =>
      new Promise<boolean>((end) => {
        begun.push({ computed, end });
      }),
  });
  return { begun, commits, stop: () => stop.abort(), ended };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("the next message is begun while one computes, and a further one when that is computed", async () => {
  const { begun, commits, stop, ended } = taken();
  await settled();
  expect(begun).toHaveLength(2);
  begun[0]!.computed();
  await settled();
  expect(begun).toHaveLength(3);
  // Storing takes its time: no more are in hand.
  begun[1]!.computed();
  await settled();
  expect(begun).toHaveLength(3);
  begun[0]!.end(true);
  await settled();
  expect(begun).toHaveLength(4);
  for (const each of begun) each.end(true);
  stop();
  await ended;
  expect(commits.at(-1)).toBe(4n);
});

test("a message is committed when it and those before it are done, and none after one that is left undone", async () => {
  const { begun, commits, stop, ended } = taken();
  await settled();
  begun[1]!.end(true);
  await settled();
  expect(commits).toEqual([]);
  begun[0]!.end(true);
  await settled();
  expect(commits).toEqual([2n]);
  begun[2]!.end(false);
  stop();
  begun[3]?.end(false);
  await ended;
  expect(commits).toEqual([2n]);
});
