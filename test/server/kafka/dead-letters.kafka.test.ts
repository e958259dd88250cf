// Dead letters by the command line: listed, shown, and sent back as they were.
import { randomUUID } from "node:crypto";
import { afterAll, expect, inject, test } from "vitest";
import { fateOf } from "../../../src/server/kafka/failed-messages.js";
import { TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { CAT, expectRefusal, qedit, workFolder } from "../../cli/qedit.js";
import { openTestClient, requestOf, SMALL } from "./kafka-client.js";

const brokers = inject("kafkaBrokers");
const folder = workFolder();
const client = await openTestClient(brokers);
afterAll(() => client.close());
const dlq = (...args: string[]) => qedit(["kafka", "dlq", ...args, "--kafka", brokers], { cwd: folder.path });

/** Makes a dead letter as a worker does. */
async function bury(job: string, code: "QEDIT_E_IMAGE" | "QEDIT_E_USAGE", value: Buffer): Promise<void> {
  const place = { topic: TOPICS.request, partition: 3, offset: 41n, timestamp: 1_790_000_000_000n };
  const message = { ...place, key: Buffer.from(job), value, headers: [["x-mine", Buffer.from("1")]] as const };
  const fate = fateOf(message, { code, message: "Cannot read it", hint: undefined }, []);
  if (fate.action === "dead-letter") await client.kafka.produce(fate.message);
}

test("dead letters are chosen by code and job, shown with their request, and sent back as they were", async () => {
  const [first, second] = [randomUUID(), randomUUID()];
  const value = client.codec.encode("run.request", requestOf(first, [CAT], SMALL));
  await bury(first, "QEDIT_E_IMAGE", value);
  await bury(second, "QEDIT_E_USAGE", Buffer.from("garbage"));

  const listed = JSON.parse((await dlq("list", "--json", "--since", "1h")).stdout) as {
    letters: Record<string, unknown>[];
  };
  const letter = listed.letters.find(({ job }) => job === first)!;
  expect(letter).toMatchObject({
    code: "QEDIT_E_IMAGE",
    error: "Cannot read it",
    attempt: 1,
    from: `${TOPICS.request} 3:41`,
  });
  expect(listed.letters.map(({ job }) => job)).toContain(second);
  const images = JSON.parse((await dlq("list", "--json", "--code", "QEDIT_E_IMAGE", "--job", second)).stdout);
  expect(images).toEqual({ letters: [] });

  const shown = JSON.parse((await dlq("show", String(letter["id"]), "--json")).stdout);
  expect(shown.request).toMatchObject({
    envelope: { job_id: first },
    images: [{ name: "cat.jpg", data: { bytes: expect.any(Number) } }],
  });
  expect(shown.headers).toContainEqual(["x-mine", "1"]);

  const sent = await dlq("redrive", "--job", first, "--json");
  expect(JSON.parse(sent.stdout), sent.stderr).toEqual({ sent: [{ id: letter["id"], job: first }] });
  const [back] = await client.messages(TOPICS.request, (all) => all.at(-1)!.key!.toString() === first);
  expect(back!.value.equals(value)).toBe(true);
  expect(back!.headers.map(([name]) => name)).toEqual(["x-mine"]);
});

test("redrive asks which letters are meant", async () => {
  expectRefusal(await dlq("redrive"), { code: 2, message: /Which dead letters are meant is not said/, hint: /--all/ });
  expectRefusal(await dlq("show", "0:999999"), { code: 2, message: /There is no dead letter 0:999999/ });
});
