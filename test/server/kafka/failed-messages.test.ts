// The fate of a message that failed: how often it is tried again, and what it carries then.
import { expect, test } from "vitest";
import { type Fate, fateOf, headerOf, originalOf } from "../../../src/server/kafka/failed-messages.js";
import type { KafkaMessage } from "../../../src/server/kafka/kafka-port.js";
import { TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import type { ErrorCode } from "../../../src/std/errors.js";

const DELAYS = [5000, 60_000, 600_000];
const message: KafkaMessage = {
  ...{ topic: TOPICS.request, partition: 3, offset: 12n, timestamp: 1_790_000_000_000n },
  ...{ key: Buffer.from("job-1"), value: Buffer.from([1, 2, 255]), headers: [["x-mine", Buffer.from([255])]] },
};

/** The fates of a message whose job fails in the same way each time, until it is not tried again. */
function fates(code: ErrorCode): readonly Fate[] {
  const all: Fate[] = [];
  let next = message;
  for (;;) {
    const fate = fateOf(next, { code, message: "why", hint: undefined }, DELAYS);
    all.push(fate);
    if (fate.action !== "retry") return all;
    next = { ...next, headers: fate.message.headers! };
  }
}

const actions = (code: ErrorCode) => fates(code).map(({ action }) => action);

test("a request that is wrong is a dead letter at once", () => {
  for (const code of ["QEDIT_E_USAGE", "QEDIT_E_IMAGE", "QEDIT_E_MODEL_MISSING", "QEDIT_E_LORA"] as const)
    expect(actions(code)).toEqual(["dead-letter"]);
});

test("what may pass is tried three times again, later each time; memory that ran out once", () => {
  expect(actions("QEDIT_E_IO")).toEqual(["retry", "retry", "retry", "dead-letter"]);
  expect(actions("QEDIT_E_ENGINE")).toEqual(["retry", "retry", "retry", "dead-letter"]);
  expect(actions("QEDIT_E_MEMORY")).toEqual(["retry", "dead-letter"]);
  const waits = fates("QEDIT_E_NETWORK").flatMap((fate) =>
    "message" in fate ? [Number(headerOf({ headers: fate.message.headers! }, "x-not-before") ?? 0) - Date.now()] : [],
  );
  for (const [index, wait] of DELAYS.entries()) expect(Math.abs(waits[index]! - wait)).toBeLessThan(1000);
});

test("a dead letter has the bytes, the key, the headers and the place of the message when it failed first", () => {
  const last = fates("QEDIT_E_MEMORY").at(-1) as Extract<Fate, { message: unknown }>;
  expect(last.message).toMatchObject({ topic: TOPICS.dlq, key: message.key, value: message.value });
  const texts = Object.fromEntries(last.message.headers!.map(([name, value]) => [name, value.toString("latin1")]));
  expect(texts).toEqual({
    ...{ "x-mine": "\xff", "x-original-topic": TOPICS.request, "x-original-partition": "3" },
    ...{ "x-original-offset": "12", "x-original-timestamp": "1790000000000" },
    ...{ "x-error-code": "QEDIT_E_MEMORY", "x-error-message": "why", "x-attempt": "2" },
  });
  const back = originalOf({ ...message, headers: last.message.headers! }, TOPICS.request);
  expect(back).toEqual({ topic: TOPICS.request, key: message.key, value: message.value, headers: message.headers });
});
