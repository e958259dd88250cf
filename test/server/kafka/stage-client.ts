// Requests for single stages, and answers to them, as tests need them.
import type { StageRequest, StageResponse } from "../../../src/server/kafka/kafka-messages.js";
import { requestTopic, responseTopic } from "../../../src/server/kafka/kafka-topics.js";
import { STAGES, type StageName } from "../../../src/stages/stage.js";
import { requestOf, type TestClient } from "./kafka-client.js";

/** A request for stages, with pictures by their paths. */
export function stageRequestOf(
  id: string,
  images: Parameters<typeof requestOf>[1],
  parameters: Readonly<Record<string, unknown>>,
  workflow: readonly string[] = STAGES,
): StageRequest {
  const { envelope, ...request } = requestOf(id, images, parameters);
  return { ...request, envelope: { ...envelope, workflow }, artifacts: [], settings: null, seconds: {} };
}

/** Sends a request to the topic of the stage that it is at. */
export async function sendStage({ kafka, codec }: TestClient, request: StageRequest): Promise<void> {
  const stage = request.envelope.workflow[request.envelope.cursor] as StageName;
  const value = codec.encode(`${stage}.request`, request);
  await kafka.produce({ topic: requestTopic(stage), key: request.envelope.job_id, value });
}

/** The answers on the topic of a last stage since the client was opened, by job, until each job has `count`. */
export async function stageAnswers(
  { messages, codec }: TestClient,
  ids: readonly string[],
  { last = "decode", count = 1 }: { readonly last?: StageName; readonly count?: number } = {},
): Promise<ReadonlyMap<string, readonly StageResponse[]>> {
  const found = new Map<string, StageResponse[]>();
  await messages(responseTopic(last), async (all) => {
    const response = await codec.decode(`${last}.response`, all.at(-1)!.value);
    const id = response.envelope.job_id;
    if (ids.includes(id)) found.set(id, [...(found.get(id) ?? []), response]);
    return ids.every((each) => (found.get(each)?.length ?? 0) >= count);
  });
  return found;
}
