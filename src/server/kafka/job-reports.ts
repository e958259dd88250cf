// What a worker says of its jobs: progress, and how those ended that failed. Failed messages go where the error table says.
import { hostname } from "node:os";
import { ERRORS } from "../../edit/error-table.js";
import { type Failure, failureOf, QeditError, type Spell, spelled } from "../../std/errors.js";
import type { Log } from "../log.js";
import { withoutFolders } from "../without-folders.js";
import type { AvroCodec } from "./avro-codec.js";
import { fateOf } from "./failed-messages.js";
import type { ProgressMessage, RunResponse } from "./kafka-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { TOPICS } from "./kafka-topics.js";

/** What reports are made with. */
interface ReportParts {
  readonly client: Pick<KafkaClient, "produce">;
  /** Writes a message whatever its size. */
  readonly bury: (message: ProducedMessage) => Promise<void>;
  readonly codec: AvroCodec;
  readonly retryDelays: readonly number[];
  readonly log: Log;
}

/** How a job ended. */
export type JobEnding = Pick<RunResponse, "status" | "result" | "error">;

/** A message that failed. */
interface FailedMessage {
  readonly error: unknown;
  /** Its job; undefined if it cannot be read. */
  readonly id: string | undefined;
  /** Asked before an answer is written. */
  readonly isOurs: () => boolean;
  /** The answer to the client. */
  readonly answer: (ending: JobEnding) => Promise<ProducedMessage>;
}

/** Reports of a worker. */
export class JobReports {
  /** Host and process. */
  readonly worker = `${hostname()}-${process.pid}`;

  constructor(private readonly parts: ReportParts) {}

  /** Sends a failed message to the dead letters or another try, and answers if it ends here; false leaves it undone. */
  async failed(message: KafkaMessage, { error, id, isOurs, answer }: FailedMessage): Promise<boolean> {
    const { client, bury, log, retryDelays } = this.parts;
    const failure = spelledFailure(failureOf(error));
    const fate = fateOf(message, failure, retryDelays);
    const facts = { ...(id !== undefined && { job: id }), ...placeOf(message), error: failure, action: fate.action };
    log(
      fate.action === "leave" ? "info" : "warn",
      `job ${id ?? "(unreadable)"}: ${failure.message}: ${fate.action}`,
      facts,
    );
    if (fate.action === "leave" || !isOurs()) return false;
    if (fate.action === "retry" || fate.action === "dead-letter") await bury(fate.message);
    if (id === undefined) return true;
    if (fate.action === "retry") {
      this.progress(id, { state: "retrying" });
      return true;
    }
    const status = fate.action === "commit" ? "cancelled" : "failed";
    const { code, message: text, hint } = failure;
    const said = { message: withoutFolders(text), hint: hint === undefined ? null : withoutFolders(hint) };
    const reason = { code, ...said, retryable: ERRORS[code].isRetryable === true };
    try {
      await client.produce(await answer({ status, result: null, error: reason }));
    } catch (unanswered) {
      // Too large for its topic: as large as the request, and the reason on top.
      if (!(unanswered instanceof QeditError) || unanswered.code !== "QEDIT_E_USAGE") throw unanswered;
      log("warn", `job ${id} is not answered: ${unanswered.message}`, { job: id, ...placeOf(message) });
    }
    this.progress(id, { state: status });
    return true;
  }

  #sending: Promise<void> | undefined;
  /** The newest of each job. */
  readonly #unsent = new Map<string, ProducedMessage>();

  /** Sends progress, which is a courtesy: the newest goes when those before have arrived, and what cannot be sent is left out. */
  progress(id: string, state: Pick<ProgressMessage, "state"> & Partial<ProgressMessage>): void {
    const { client, codec } = this.parts;
    const nothing = { stage: null, step: null, steps: null, eta: null };
    const message = { job_id: id, at: Date.now(), worker: this.worker, ...nothing, ...state };
    this.#unsent.set(id, { topic: TOPICS.progress, key: id, value: codec.encode("progress", message) });
    this.#sending ??= (async () => {
      for (const [each, next] of this.#unsent) {
        this.#unsent.delete(each);
        await client.produce(next).catch(() => {});
      }
      this.#sending = undefined;
    })();
  }
}

/** Where a message was, for logs. */
export function placeOf({ topic, partition, offset }: KafkaMessage): object {
  return { topic, partition, offset: String(offset) };
}

/** Parameters of messages by their names in the schema. */
const asField: Spell = (name, value) => (value === undefined ? name : `${name}: ${value}`);

function spelledFailure({ code, message, hint }: Failure): Failure {
  return { code, message: spelled(message, asField), hint: hint === undefined ? undefined : spelled(hint, asField) };
}
