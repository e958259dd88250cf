// Opens the doors of a server, says so, and closes them in order when it is asked to stop.
import { setTimeout as sleep } from "node:timers/promises";
import type { BaseSettings } from "../edit/request/edit-request.js";
import type { ServiceOptions } from "../edit/service/service.js";
import { param, QeditError, spelled } from "../std/errors.js";
import { ioFailure, readBounded } from "../std/files.js";
import { secretOf } from "../std/secret.js";
import { qeditVersion } from "../std/version.js";
import { type Address, parseAddress, written } from "./addresses.js";
import { type EditServer, openEditServer } from "./edit-server.js";
import { httpApp } from "./http/app.js";
import type { HttpContext } from "./http/http-context.js";
import { asJsonKey } from "./http/http-error.js";
import { type Listener, listenOn, listenOnSocket } from "./http/listen.js";
import { isLoopback } from "./http/security.js";
import type { KafkaDoor, KafkaSettings } from "./kafka/kafka-door.js";
import { Inference } from "./kserve/inference.js";
import type { ServerLimits } from "./limits.js";
import type { Log } from "./log.js";
import { openMetrics } from "./metrics.js";
import type { ServerEvent } from "./server-event.js";
import { openTracing, traceIdOf } from "./tracing.js";
import { warmUp } from "./warm-up.js";
import { type Watching, watchFolder } from "./watch/watch-folder.js";

/** The settings of a server. */
export interface ServeSettings {
  /** `[HOST:]PORT`, or `none`. */
  readonly http: string;
  /** `[HOST:]PORT` of the gRPC door; undefined: none. */
  readonly grpc: string | undefined;
  /** Checked by secretOf. */
  readonly apiKey: string | undefined;
  /** File with the key. */
  readonly apiKeyFile: string | undefined;
  /** Whether other machines may ask without a key. */
  readonly insecure: boolean;
  /** Whether /metrics is answered. */
  readonly metrics: boolean;
  /** Models that are opened before it is ready. */
  readonly load: readonly string[];
  /** Milliseconds that the running job has after SIGTERM. */
  readonly grace: number;
  /** Folders whose job files and pictures are edited. */
  readonly watch: readonly string[];
  /** Hosts whose pictures may be fetched. */
  readonly allowUrls: readonly string[];
  /** Where requests are taken from as well. */
  readonly kafkaDoor?: KafkaSettings | undefined;
}

/** What a server is opened with. */
export interface ServeOptions {
  readonly settings: ServeSettings;
  readonly service: Omit<ServiceOptions, "isolation" | "signal" | "emit">;
  readonly base: BaseSettings;
  readonly limits: ServerLimits;
  readonly state: string;
  readonly keepResults: number;
  readonly resultsLimit: number;
  /** Path of the socket for this user's own calls; undefined: none. */
  readonly socket: string | undefined;
  readonly log: Log;
  /** Aborted when it has to stop. */
  readonly stop: AbortSignal;
}

/** Bytes of a file with a key. */
const LONGEST_KEY_FILE = 64 * 1024;
/** Milliseconds that answers may still take when all work has ended. */
const LAST_ANSWERS = 5_000;
/** Milliseconds without an answer after which the doors are closed, and between two looks. */
const QUIET = 200;
const LOOK = 50;

/** Serves until it is stopped. Throws QEDIT_E_USAGE for an open address without a key, QEDIT_E_IO, and as openEditServer. */
export async function serve(options: ServeOptions): Promise<void> {
  const { settings, log, socket } = options;
  const asked = new AbortController();
  const stop = AbortSignal.any([options.stop, asked.signal]);
  const key = await keyOf(settings);
  const address = settings.http === "none" ? undefined : parseAddress(settings.http, "http");
  if (address) refuseOpenDoor(address, key, { ...settings, parameter: "http" });
  const grpcAddress = settings.grpc === undefined ? undefined : parseAddress(settings.grpc, "grpc");
  if (grpcAddress) refuseOpenDoor(grpcAddress, key, { ...settings, parameter: "grpc" });
  const version = qeditVersion();
  const metrics = settings.metrics ? openMetrics(() => server, version) : undefined;
  const traced = openTracing(version);
  const observe = (event: ServerEvent) => {
    traced(event);
    metrics?.observe(event);
    logEvent(event, log);
  };
  const server: EditServer = await openEditServer({ ...options, observe });
  const listeners: Listener[] = [];
  const watching: Watching[] = [];
  let kafka: KafkaDoor | undefined;
  try {
    const inference = new Inference(server);
    const context: HttpContext = {
      ...{ server, version, metrics, hasKey: key !== undefined, urlHosts: settings.allowUrls },
      stop: () => asked.abort(),
    };
    const isLoopbackOnly = address === undefined || isLoopback(address.host);
    const app = httpApp(context, {
      ...{ inference, key, isLoopbackOnly },
      onAnswer: ({ error, ...facts }) => {
        metrics?.answered(facts);
        const text = `${facts.method} ${facts.path} ${facts.status} ${facts.seconds.toFixed(3)} s`;
        if (facts.status >= 500) log("error", text, { ...facts, err: error });
        else log(/^\/(v2\/)?health/.test(facts.path) ? "debug" : "info", text, facts);
      },
    });
    const http = address && (await listenOn(app, address));
    if (http) listeners.push(http);
    const local = socket === undefined ? undefined : await listenOnSocket(app, socket);
    if (local) listeners.push(local);
    else if (socket !== undefined)
      log("info", `another server answers on ${socket}: this one is reached by its address`);
    const url = http && `http://${written(http.address)}`;
    const where = url ?? (local ? socket : "nothing but Kafka");
    log("info", `listening on ${where}`, { ...(url && { http: url }), ...(local && { socket }), pid: process.pid });
    kafka = settings.kafkaDoor && (await openedKafka(settings.kafkaDoor, server, log));
    if (grpcAddress) listeners.push(await grpcDoor(inference, { ...grpcAddress, key }, log));
    for (const model of settings.load) if (!stop.aborted) await loaded(server, model, { log, stop });
    if (!stop.aborted) {
      void server.ready().catch((error: Error) => log("error", `jobs of the state folder: ${error.message}`));
      kafka?.start();
      for (const folder of settings.watch) watching.push(await watchFolder(server, folder, log));
      log("info", `ready, computing on ${server.device}`, { device: server.device });
      await new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }));
    }
    log("info", "stopping", { ...server.load() });
    kafka?.stop();
    const end = performance.now() + settings.grace;
    const drained = Promise.all(
      [server, inference, ...(kafka ? [kafka] : [])].map((each) => each.drain(settings.grace)),
    );
    await Promise.all([drained, ...watching.map((each) => each.stop(drained))]);
    await answered(listeners, Math.max(end, performance.now() + LAST_ANSWERS));
    for (const listener of listeners) listener.stop();
  } finally {
    await kafka?.close();
    for (const listener of listeners) await listener.close();
    await server.close();
  }
  log("info", "stopped");
}

// Waits until the answers of what has ended are sent, and clients have fetched what they were told of: a while without any.
async function answered(listeners: readonly Listener[], latest: number): Promise<void> {
  for (let quiet = 0; quiet < QUIET && performance.now() < latest; ) {
    await sleep(LOOK);
    quiet = listeners.some((listener) => listener.underWay() > 0) ? 0 : quiet + LOOK;
  }
}

// Loaded only where it is wanted.
async function grpcDoor(inference: Inference, options: Address & { readonly key: string | undefined }, log: Log) {
  const { startGrpc } = await import("./grpc/grpc-server.js");
  const door = await startGrpc(inference, {
    ...options,
    onAnswer: ({ error, ...facts }) => {
      const text = `gRPC ${facts.method} ${facts.status} ${facts.seconds.toFixed(3)} s`;
      log(facts.status === "INTERNAL" ? "error" : "info", text, error === undefined ? facts : { ...facts, err: error });
    },
  });
  log("info", `listening on grpc://${written(door.address)}`, { grpc: written(door.address) });
  return door;
}

// Loaded when it is used: its packages are optional.
async function openedKafka(door: KafkaSettings, server: EditServer, log: Log): Promise<KafkaDoor> {
  const { openKafkaDoor } = await import("./kafka/kafka-door.js");
  return openKafkaDoor(door, server, log);
}

async function loaded(
  server: EditServer,
  model: string,
  { log, stop }: { readonly log: Log; readonly stop: AbortSignal },
): Promise<void> {
  const start = performance.now();
  await warmUp(server, model, stop);
  if (stop.aborted) return;
  const seconds = (performance.now() - start) / 1000;
  log("info", `${model} is open after ${seconds.toFixed(1)} s`, { model, seconds });
}

async function keyOf({ apiKey, apiKeyFile }: ServeSettings): Promise<string | undefined> {
  if (apiKeyFile === undefined) return apiKey;
  const bytes = await readBounded(apiKeyFile, LONGEST_KEY_FILE, { hasPipes: true }).catch((error: unknown) => {
    throw ioFailure("read", apiKeyFile, error);
  });
  const key = secretOf(bytes.toString("utf8"), apiKeyFile);
  if (key !== undefined) return key;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use ${apiKeyFile} as API key: it is empty`, {
    hint: `Write the key alone into the file: openssl rand -hex 32 > ${apiKeyFile}`,
  });
}

function refuseOpenDoor(
  { host }: Address,
  key: string | undefined,
  { insecure, parameter }: Pick<ServeSettings, "insecure"> & { readonly parameter: "http" | "grpc" },
): void {
  if (isLoopback(host) || key !== undefined || insecure) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot listen on ${host} without a key: every machine that reaches it could use it`,
    {
      hint: `Set ${param("api_key")} or QEDIT_API_KEY, or add ${param("insecure")}`,
      parameter,
    },
  );
}

function logEvent(event: ServerEvent, log: Log): void {
  if (event.kind === "warning") {
    log("warn", event.text);
  } else if (event.kind === "restart") {
    log("warn", `the engine is started again: ${event.reason}`);
  } else if (event.kind === "service") {
    const { event: inner } = event;
    if (inner.kind === "warning" || inner.kind === "note")
      log(
        inner.kind === "warning" ? "warn" : "info",
        spelled(inner.text, asJsonKey),
        inner.id === undefined ? {} : { job: inner.id },
      );
    if (inner.kind === "session") log("debug", `${inner.name} ${inner.action}`, { ...inner });
  } else if ("job" in event) logJob(event, log);
}

function logJob(event: Extract<ServerEvent, { job: unknown }>, log: Log): void {
  const { id, state } = event.job;
  const { started, ended, error } = event.job.snapshot();
  const seconds = started && ended ? (Date.parse(ended) - Date.parse(started)) / 1000 : undefined;
  const trace = traceIdOf(event.job.parts.traceparent);
  const facts = {
    job: id,
    ...(trace !== undefined && { trace_id: trace }),
    state,
    seconds,
    ...(error && { error: { ...error, message: spelled(error.message, asJsonKey) } }),
  };
  const detail = error ? `: ${facts.error?.message}` : seconds === undefined ? "" : ` after ${seconds.toFixed(1)} s`;
  log(state === "failed" ? "warn" : "info", `job ${id} ${event.kind === "ended" ? state : event.kind}${detail}`, facts);
}
