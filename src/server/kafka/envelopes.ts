// Envelopes of requests, which came in messages and are not trusted: who asked, where the answer goes, and the seed that follows from the job's id.
import { createHash } from "node:crypto";
import { QeditError } from "../../std/errors.js";
import { validTraceparent } from "../tracing.js";
import { headerOf } from "./failed-messages.js";
import type { Envelope } from "./kafka-messages.js";
import type { KafkaClient, KafkaHeaders, KafkaMessage } from "./kafka-port.js";
import { responseTopic, TOPIC_NAMES, WORK } from "./kafka-topics.js";

const TOPIC_NAME = /^[\w.-]{1,249}$/;
/** Topics of ours that no answer may go to. */
const OWN = TOPIC_NAMES.filter((name) => !WORK.some((work) => responseTopic(work) === name));

/** Throws QEDIT_E_USAGE for a job without a plain id, and for an answer that would go to no topic or to one of ours. */
export async function checkEnvelope(
  { reply_to: replyTo, job_id: id }: Envelope,
  client: Pick<KafkaClient, "topicNames">,
): Promise<void> {
  if (!/^[\x20-\x7e]{1,200}$/.test(id)) throw refused("job_id has to be 1 to 200 plain characters", "Use a UUID");
  if (replyTo === null) return;
  if (!TOPIC_NAME.test(replyTo) || OWN.includes(replyTo))
    throw refused(`reply_to may not be "${replyTo.slice(0, 249)}"`, "Name a topic of your own");
  if (!(await client.topicNames()).includes(replyTo))
    throw refused(`reply_to names the topic ${replyTo}, which is not there`, "Create it first");
}

/** A request that is refused. */
export function refused(reason: string, hint: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot do the request: ${reason}`, { hint });
}

/** The trace that a request belongs to. */
export function traceOf({ traceparent }: Envelope, message: KafkaMessage): string | undefined {
  return validTraceparent(headerOf(message, "traceparent")) ?? validTraceparent(traceparent ?? undefined);
}

/** The headers of what is written for a request. */
export function traceHeaders(traceparent: string | undefined): { readonly headers?: KafkaHeaders } {
  return traceparent === undefined ? {} : { headers: [["traceparent", Buffer.from(traceparent)]] };
}

/** The seed of a job that leaves it to chance: the same one wherever the job is done again; torch's generator uses 32 bits of it. */
export function seedOf(jobId: string): bigint {
  return BigInt(createHash("sha256").update(jobId).digest().readUInt32BE());
}
