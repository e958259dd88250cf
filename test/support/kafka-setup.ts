// Starts a broker for the whole Kafka suite; KAFKA_BROKERS names another one.
import type { TestProject } from "vitest/node";
import { startBroker } from "./kafka-broker.js";

declare module "vitest" {
  interface ProvidedContext {
    readonly kafkaBrokers: string;
  }
}

/** Called by vitest before the first test; gives what is called after the last. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env["KAFKA_BROKERS"];
  const broker = given ? undefined : await startBroker();
  project.provide("kafkaBrokers", given || broker!.brokers);
  return broker?.remove;
}
