// Topics against a real broker: made once, described, and what is said when no broker answers.
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, inject, test } from "vitest";
import type { KafkaConsumer } from "../../../src/server/kafka/kafka-port.js";
import { openKafka } from "../../../src/server/kafka/platformatic-client.js";
import { expectRefusal, qedit, workFolder } from "../../cli/qedit.js";

const brokers = inject("kafkaBrokers");
const folder = workFolder();
const call = (...args: string[]) => qedit([...args, "--kafka", brokers], { cwd: folder.path });

test("topics are created once, and described with their partitions", async () => {
  const names = [
    ...["run", "encode-image", "encode-prompt", "sample", "decode"].flatMap((work) => [
      `qedit.${work}.request.v1`,
      `qedit.${work}.response.v1`,
    ]),
    "qedit.progress.v1",
    "qedit.retry.v1",
    "qedit.dlq.v1",
  ];
  const created = await call("kafka", "topics", "create", "--partitions", "6", "--json");
  expect(created.code, created.stderr).toBe(0);
  expect(JSON.parse(created.stdout).topics.map(({ name }: { name: string }) => name)).toEqual(names);
  const again = await call("kafka", "topics", "create", "--partitions", "6", "--json");
  expect(JSON.parse(again.stdout)).toEqual({ topics: names.map((name) => ({ name, created: false })) });
  expect((await call("kafka", "topics", "list")).stdout.trim().split("\n")).toEqual(names);
  const described = JSON.parse((await call("kafka", "topics", "describe", "--json")).stdout);
  expect(described.topics[0]).toMatchObject({ name: names[0], partitions: 6, replicas: 1 });
});

test("a broker that does not answer is named, with the next thing to type", async () => {
  const ended = await qedit(["kafka", "topics", "list", "--kafka", "127.0.0.1:1"], { cwd: folder.path });
  expectRefusal(ended, {
    code: 1,
    message: /Cannot list the topics at 127\.0\.0\.1:1: no broker is reached/,
    hint: /qedit kafka topics list/,
  });
});

describe("a consumer", () => {
  const created = async (partitions: number) => {
    const client = await openKafka(brokers);
    const topic = `test-${randomUUID()}`;
    await client.create({ name: topic, partitions, replicas: 1, configs: {} });
    return { client, topic, group: `group-${randomUUID()}` };
  };
  const taken = async (client: Awaited<ReturnType<typeof openKafka>>, group: string, topic: string, count: number) => {
    const consumer = await client.join(group, [topic]);
    const values: string[] = [];
    for await (const message of consumer.messages) {
      values.push(message.value.toString());
      await consumer.commit(message.topic, message.partition, message.offset + 1n);
      if (values.length === count) break;
    }
    await consumer.close();
    return values;
  };

  test("goes on behind what its group has committed, without a message done twice or left out", async () => {
    const { client, topic, group } = await created(1);
    for (const value of ["1", "2", "3", "4", "5"]) await client.produce({ topic, value: Buffer.from(value) });
    expect(await taken(client, group, topic, 2)).toEqual(["1", "2"]);
    expect(await taken(client, group, topic, 1)).toEqual(["3"]);
    expect(await taken(client, group, topic, 2)).toEqual(["4", "5"]);
    await client.close();
  });

  test("reads keys, empty values and headers as they were written, two of one name too", async () => {
    const { client, topic } = await created(1);
    const headers = [
      ["a", Buffer.from([0, 255])],
      ["a", Buffer.from("2")],
    ] as const;
    await client.produce({ topic, key: "k", value: Buffer.alloc(0), headers });
    const stop = new AbortController();
    for await (const message of client.read(topic, [0n], stop.signal)) {
      expect({ key: message.key?.toString(), length: message.value.length, headers: message.headers }).toEqual({
        key: "k",
        length: 0,
        headers,
      });
      stop.abort();
    }
    await client.close();
  });

  test("a static member finds its partitions again when it comes back, and nobody takes them meanwhile", async () => {
    const { client, topic, group } = await created(4);
    const owned = (member: KafkaConsumer) => [0, 1, 2, 3].filter((partition) => member.owns({ topic, partition }));
    const until = async (isSo: () => boolean) => {
      for (let tries = 0; tries < 150 && !isSo(); tries++) await delay(100);
      expect(isSo()).toBe(true);
    };
    const [first, second] = [await client.join(group, [topic], "first"), await client.join(group, [topic], "second")];
    await until(() => owned(first).length === 2 && owned(second).length === 2);
    const before = owned(second);
    await second.close();
    await delay(2500);
    expect(owned(first)).toHaveLength(2);
    const again = await client.join(group, [topic], "second");
    await until(() => owned(again).length === 2);
    expect(owned(again)).toEqual(before);
    // One that does not come back loses them when its session ends.
    await again.close();
    await until(() => owned(first).length === 4);
    await first.close();
    await client.close();
  });

  test("another one of the same name waits until the first has ended", async () => {
    const { client, topic, group } = await created(1);
    const first = await client.join(group, [topic], "same");
    await expect(client.join(group, [topic], "same")).rejects.toThrow(/UNRELEASED_INSTANCE_ID/);
    await first.close();
    await (await client.join(group, [topic], "same")).close();
    await client.close();
  });

  test("a message that is too large for its topic is refused by its size", async () => {
    const { client, topic } = await created(1);
    const value = Buffer.alloc(64 * 1024 ** 2);
    await expect(client.produce({ topic, value })).rejects.toThrow(/Cannot write 67108864 bytes/);
    await client.close();
  });
});
