// A real Apache Kafka (one node, KRaft) on free ports, from Maven Central. Needs Java 17 and Maven.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "./free-port.js";

const run = promisify(execFile);

const VERSION = "4.4.0";
const LIBRARIES = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "qedit-test-kafka", VERSION);
const JAVA = ["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", join(LIBRARIES, "*")];
/** Messages that topics may take beyond their own limit: some tests send what is too large for qedit. */
const MESSAGE_BYTES = 32 * 1024 ** 2;
const STARTS_WITHIN = 120_000;

/** A broker that was started here. */
export interface TestBroker {
  /** `127.0.0.1:PORT`. */
  readonly brokers: string;
  /** kill -9. */
  readonly kill: () => Promise<void>;
  /** Starts it again on its data. */
  readonly start: () => Promise<void>;
  /** Kills it, and removes its data. */
  readonly remove: () => Promise<void>;
}

/** Starts a broker; the first time this downloads 54 MB. `own`: properties instead of those of tests, for a folder of data; one of its listeners is at `port`. */
export async function startBroker(own?: {
  readonly port: number;
  readonly properties: (data: string) => Readonly<Record<string, string>>;
}): Promise<TestBroker> {
  await download();
  const folder = mkdtempSync(join(tmpdir(), "qedit-kafka-"));
  const [port, controller] = own ? [own.port, 0] : [await freePort(), await freePort()];
  const data = join(folder, "data");
  const values = own ? own.properties(data) : propertiesOf(data, port, controller);
  const properties = join(folder, "broker.properties");
  writeFileSync(
    properties,
    Object.entries(values)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(""),
  );
  const id = (await run("java", [...JAVA, "kafka.tools.StorageTool", "random-uuid"])).stdout.trim().split("\n").at(-1)!;
  // Voters that are named are formatted with them.
  const quorum = "controller.quorum.voters" in values ? [] : ["--standalone"];
  await run("java", [...JAVA, "kafka.tools.StorageTool", "format", "-t", id, "-c", properties, ...quorum]);
  let child: ChildProcess | undefined;
  const broker: TestBroker = {
    brokers: `127.0.0.1:${port}`,
    async start() {
      const log = join(folder, "broker.log");
      writeFileSync(log, "");
      const output = openSync(log, "a");
      const started = spawn("java", [...JAVA, "kafka.Kafka", properties], { stdio: ["ignore", output, output] });
      child = started;
      for (const end = Date.now() + STARTS_WITHIN; !readFileSync(log, "utf8").includes("Kafka Server started"); ) {
        if (started.exitCode !== null || Date.now() > end)
          throw new Error(`Kafka did not start:\n${readFileSync(log, "utf8")}`);
        await delay(100);
      }
    },
    async kill() {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
    async remove() {
      await broker.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await broker.start();
  return broker;
}

async function download(): Promise<void> {
  const done = join(LIBRARIES, ".done");
  if (existsSync(done)) return;
  mkdirSync(join(LIBRARIES, "pom"), { recursive: true });
  const pom = join(LIBRARIES, "pom", "pom.xml");
  const wanted = [
    ["org.apache.kafka", "kafka_2.13", VERSION],
    ["org.slf4j", "slf4j-simple", "1.7.36"],
  ].map(
    ([group, name, version]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`,
  );
  writeFileSync(
    pom,
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>qedit</groupId><artifactId>kafka</artifactId>
<version>1</version><packaging>pom</packaging><dependencies>${wanted.join("\n")}</dependencies></project>`,
  );
  const goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", `-DoutputDirectory=${LIBRARIES}`];
  await run("mvn", ["-q", "-B", "-f", pom, ...goal]);
  writeFileSync(done, "");
}

function propertiesOf(data: string, port: number, controller: number): Readonly<Record<string, string>> {
  return {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.bootstrap.servers": `127.0.0.1:${controller}`,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "log.dirs": data,
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    // A killed worker's messages go to the others after this.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "auto.create.topics.enable": "false",
    "message.max.bytes": String(MESSAGE_BYTES),
  };
}
