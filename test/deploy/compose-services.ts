// Runs services of deploy/compose.yaml without containers: their own command lines and environment, with paths below a folder and addresses of this machine's loopback.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ROOT } from "../docs/pages.js";
import { pythonTools, said } from "./tools.js";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
const COMPOSE = join(ROOT, "deploy/compose.yaml");

/** A service as the compose specification has it. */
export interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly { readonly host_ip?: string; readonly published: string; readonly target: number }[];
  readonly volumes?: readonly { readonly type: string; readonly source: string; readonly target: string }[];
  readonly user?: string;
  readonly read_only?: boolean;
  readonly stop_grace_period?: string;
}

/** What compose says of a file: its exit code, what it wrote, and the services. */
export async function composed(
  variables: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number; readonly stderr: string; readonly services: Readonly<Record<string, Service>> }> {
  const { compose } = await pythonTools();
  const env = { PATH: process.env["PATH"] ?? "", ...variables };
  const args = ["-f", COMPOSE, "--profile", "*", "config", "--format", "json"];
  const { code, stdout, stderr } = await said(compose, args, { env });
  return { code, stderr, services: (JSON.parse(stdout || "{}") as { services: Record<string, Service> }).services };
}

/** Where a service runs here. */
export interface Place {
  /** Its root: /data is `data` in it. */
  readonly folder: string;
  /** Of addresses that it listens on or asks: "0.0.0.0" and names of services, with what stands for them. */
  readonly addresses: Readonly<Record<string, string>>;
}

/** A service that was started. */
export interface Running {
  readonly child: ChildProcess;
  /** What it wrote to stdout and stderr so far. */
  readonly log: () => string;
  /** Its exit code, when it has ended. */
  readonly end: Promise<number | null>;
}

/** Starts a service of qedit's image, with the key that compose gives it. */
export function startService({ command = [], environment = {} }: Service, { folder, addresses }: Place): Running {
  const here = (value: string) => (value.startsWith("/") ? join(folder, value) : placed(value, addresses));
  const image = Object.fromEntries(imageEnvironment().map(([name, value]) => [name, here(value)]));
  const key = here("/etc/qedit/api-key");
  for (const path of [here("/data"), here("/models"), here("/tmp"), dirname(key)]) mkdirSync(path, { recursive: true });
  writeFileSync(key, "development");
  const child = spawn(process.execPath, [BIN, ...command.map(here)], {
    cwd: here("/data"),
    env: { PATH: process.env["PATH"] ?? "", ...image, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const written: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes: Buffer) => written.push(bytes));
  return {
    child,
    log: () => Buffer.concat(written).toString(),
    end: once(child, "exit").then(([code]) => code as number | null),
  };
}

/** A text with addresses exchanged: `broker:9092`. */
export function placed(text: string, addresses: Place["addresses"]): string {
  return Object.entries(addresses).reduce((now, [from, to]) => now.replaceAll(from, to), text);
}

/** The properties that Kafka's image makes of its environment: KAFKA_LOG_DIRS is log.dirs. */
export function kafkaProperties({ environment = {} }: Service): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [
      name
        .replace(/^KAFKA_/, "")
        .toLowerCase()
        .replaceAll("_", "."),
      value,
    ]),
  );
}

// The first ENV of the Dockerfile is that of the image that serves.
function imageEnvironment(): readonly (readonly [name: string, value: string])[] {
  const [, block] = /^ENV ((?:.*\\\n)*.*)$/m.exec(readFileSync(join(ROOT, "deploy/Dockerfile"), "utf8"))!;
  return block!
    .split("\\\n")
    .map((line) => line.trim().split("="))
    .map(([name, value]) => [name!, value!]);
}
