// What clients of a worker and its operators read of a job that failed.
import { expect, test } from "vitest";
import { openAvroCodec } from "../../../src/server/kafka/avro-codec.js";
import { HEADERS, headerOf } from "../../../src/server/kafka/failed-messages.js";
import { type JobEnding, JobReports } from "../../../src/server/kafka/job-reports.js";
import type { KafkaMessage, ProducedMessage } from "../../../src/server/kafka/kafka-port.js";
import { QeditError } from "../../../src/std/errors.js";

const MESSAGE: KafkaMessage = {
  ...{ topic: "qedit.run.request", partition: 0, offset: 7n, timestamp: 1_790_000_000_000n },
  ...{ key: Buffer.from("job-1"), value: Buffer.from("bytes"), headers: [] },
};

test("a reply names files without the folders of its worker, dead letters and the log with them", async () => {
  const [buried, logged, endings]: [ProducedMessage[], string[], JobEnding[]] = [[], [], []];
  const reports = new JobReports({
    client: { produce: async () => {} },
    bury: async (message) => void buried.push(message),
    codec: await openAvroCodec(),
    retryDelays: [],
    log: (_level, text) => void logged.push(text),
  });
  const error = new QeditError("QEDIT_E_LORA", "Cannot read /srv/models/loras/a.safetensors: it is cut off", {
    hint: "Compare it with /srv/models/loras/b.safetensors",
  });
  const answer = async (ending: JobEnding) => {
    endings.push(ending);
    return { topic: "qedit.run.response", value: Buffer.from("") };
  };
  expect(await reports.failed(MESSAGE, { error, id: "job-1", isOurs: () => true, answer })).toBe(true);
  expect(endings).toEqual([
    {
      ...{ status: "failed", result: null },
      error: {
        code: "QEDIT_E_LORA",
        message: "Cannot read a.safetensors: it is cut off",
        hint: "Compare it with b.safetensors",
        retryable: false,
      },
    },
  ]);
  expect(buried.map((message) => headerOf({ headers: message.headers! }, HEADERS.message))).toEqual([error.message]);
  expect(logged[0]).toContain("/srv/models/loras/a.safetensors");
});
