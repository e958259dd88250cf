// qedit kafka dlq: what failed for good, why, and sending it back.
import { defaulted, optional, type SettingsOf } from "../../../edit/parameters/parameter.js";
import { duration, text, toggle } from "../../../edit/parameters/parameter-kinds.js";
import { openAvroCodec } from "../../../server/kafka/avro-codec.js";
import { type DeadLetter, readDeadLetters, redrive as sendBack } from "../../../server/kafka/dead-letters.js";
import { HEADERS, headerOf } from "../../../server/kafka/failed-messages.js";
import type { KafkaMessage } from "../../../server/kafka/kafka-port.js";
import { workOf } from "../../../server/kafka/kafka-topics.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";
import { kafkaOptions, schemaRegistry } from "../../settings/kafka-options.js";
import { withKafka } from "./topics.js";

const filterOptions = {
  ...kafkaOptions,
  code: optional(text, {
    summary: "only with this error code",
    group: "Server",
    scope: "call",
    placeholder: "<QEDIT_E_...>",
  }),
  job: optional(text, { summary: "only of this job", group: "Server", scope: "call", placeholder: "<id>" }),
  since: optional(duration, {
    summary: "only the last so long: 30m, 2h, 1d",
    group: "Server",
    scope: "call",
    placeholder: "<duration>",
  }),
};

type Filter = SettingsOf<typeof filterOptions>;

const IDS = ["[letter...]", "letters as `list` names them: PARTITION:OFFSET"] as const;

const list = defineCommand({
  examples: [
    "qedit kafka dlq list --kafka localhost:9092",
    "qedit kafka dlq list --kafka localhost:9092 --code QEDIT_E_MEMORY --since 1d --json",
  ],
  options: filterOptions,
  async perform({ settings }, terminal) {
    await withKafka(settings.kafka!, async (client) => {
      const letters = await readDeadLetters(client, filterOf([], settings));
      terminal.result(
        { letters: letters.map(recordOf) },
        letters.map(
          ({ id, at, code, job, error }) => `${id.padEnd(8)}  ${new Date(at).toISOString()}  ${code}  ${job}  ${error}`,
        ),
      );
    });
  },
});

const show = defineCommand({
  examples: ["qedit kafka dlq show 0:12 --kafka localhost:9092"],
  positionals: [["<letter>", IDS[1]]],
  options: { ...kafkaOptions, schemaRegistry },
  async perform({ args, settings: { kafka, schemaRegistry: registry } }, terminal) {
    const codec = await openAvroCodec(registry);
    await withKafka(kafka!, async (client) => {
      const [letter] = await readDeadLetters(client, { ids: args, code: undefined, job: undefined, within: undefined });
      const { message } = letter!;
      const headers = message.headers.map(([name, value]) => [name, value.toString("utf8")] as const);
      const work = workOf(headerOf(message, HEADERS.topic)) ?? "run";
      const request = await readable(() => codec.decode(`${work}.request`, message.value));
      const record = { ...recordOf(letter!), headers, bytes: message.value.length, request };
      terminal.result(record, [
        ...headers.map(([name, value]) => `${name}: ${value}`),
        `${message.value.length} bytes`,
        ...(request === null ? [] : JSON.stringify(request, null, 2).split("\n")),
      ]);
    });
  },
});

const redrive = defineCommand({
  examples: [
    "qedit kafka dlq redrive 0:12 --kafka localhost:9092",
    "qedit kafka dlq redrive --code QEDIT_E_MODEL_MISSING --since 2h --kafka localhost:9092",
    "qedit kafka dlq redrive --all --kafka localhost:9092",
  ],
  positionals: [IDS],
  options: {
    ...filterOptions,
    all: defaulted(toggle, false, { summary: "all of them", group: "Server", scope: "call" }),
  },
  async perform({ args, settings }, terminal) {
    const ids = args.flat();
    const { code, job, since, all } = settings;
    if (ids.length === 0 && code === undefined && job === undefined && since === undefined && !all)
      throw new QeditError("QEDIT_E_USAGE", "Which dead letters are meant is not said", {
        hint: "Name some, choose by --code, --job or --since, or add --all",
      });
    await withKafka(settings.kafka!, async (client) => {
      const letters = await readDeadLetters(client, filterOf(ids, settings));
      for (const letter of letters) await sendBack(client, letter);
      terminal.result({ sent: letters.map(({ id, job: each }) => ({ id, job: each })) }, [
        ...letters.map(({ id, job: each }) => `${id}  ${each}`),
        `${letters.length} sent back`,
      ]);
    });
  },
});

/** `qedit kafka dlq VERB`. */
export const dlq = defineCommand({
  examples: [
    "qedit kafka dlq list --kafka localhost:9092",
    "qedit kafka dlq redrive --since 1h --kafka localhost:9092",
  ],
  options: {},
  commands: [
    { name: "list", summary: "List the dead letters", load: async () => list },
    {
      name: "show",
      summary: "Show a dead letter: its headers, and its request if it can be read",
      load: async () => show,
    },
    { name: "redrive", summary: "Send dead letters back to where they came from", load: async () => redrive },
  ],
});

function filterOf(ids: readonly string[], { code, job, since }: Pick<Filter, "code" | "job" | "since">) {
  return { ids, code, job, within: since };
}

function recordOf({ id, at, job, code, error, attempt, from }: DeadLetter): object {
  return { id, at: new Date(at).toISOString(), job, code, error, attempt, from };
}

// Pictures are told by their size: nobody reads their bytes.
async function readable(read: () => Promise<unknown>): Promise<object | null> {
  try {
    return JSON.parse(
      JSON.stringify(await read(), (key, value: unknown) =>
        key === "data" && (value as { type?: string }).type === "Buffer"
          ? { bytes: (value as { data: KafkaMessage["value"] }).data.length }
          : value,
      ),
    ) as object;
  } catch {
    return null;
  }
}
