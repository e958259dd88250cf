// Metrics of the server for Prometheus, https://prometheus.io/docs/practices/naming
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { freeMemory } from "../engine/memory/free-memory.js";
import { deviceName } from "../engine/providers.js";
import { STAGES } from "../stages/stage.js";
import type { EditServer } from "./edit-server.js";
import type { ServerEvent } from "./server-event.js";
import type { Load } from "./stage-turns.js";

/** Seconds of steps, stages and jobs: from a small model on a CPU to a large one that is streamed. */
const SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];

/** Milliseconds between two looks at the event loop. */
const LOOP_RESOLUTION = 10;

/** Metrics that follow the server's events. */
export interface Metrics {
  readonly observe: (event: ServerEvent) => void;
  readonly answered: (answer: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly seconds: number;
  }) => void;
  /** The text of `/metrics`, and its content type. */
  readonly text: () => Promise<string>;
  readonly contentType: string;
}

/** Opens the metrics of a server; what can be asked for at any time is read from it when they are collected. */
export function openMetrics(server: () => EditServer, version: string): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const stages = new Histogram({
    name: "qedit_stage_seconds",
    help: "Seconds of a stage of an edit",
    labelNames: ["stage"],
    buckets: SECONDS,
    registers,
  });
  const steps = new Histogram({
    name: "qedit_step_seconds",
    help: "Seconds of a sampling step",
    buckets: SECONDS,
    registers,
  });
  const evaluations = new Counter({
    name: "qedit_step_cache_evaluations_total",
    help: "Evaluations of the transformer with a step cache, computed whole or by the first block alone",
    labelNames: ["computed"],
    registers,
  });
  for (const computed of ["whole", "first block"]) evaluations.inc({ computed }, 0);
  const waits = new Histogram({
    name: "qedit_queue_wait_seconds",
    help: "Seconds that a job waited before it ran; with a stage: a single stage that was asked for",
    labelNames: ["stage"],
    buckets: SECONDS,
    registers,
  });
  const jobs = new Counter({
    name: "qedit_jobs_total",
    help: "Jobs that ended, by their final state; with a stage: single stages that were asked for",
    labelNames: ["state", "stage"],
    registers,
  });
  for (const state of ["completed", "failed", "cancelled"]) {
    jobs.inc({ state }, 0);
    for (const stage of STAGES) jobs.inc({ state, stage }, 0);
  }
  const cache = new Counter({
    name: "qedit_cache_hits_total",
    help: "Results of stages that were taken from the cache",
    labelNames: ["stage"],
    registers,
  });
  const restarts = new Counter({
    name: "qedit_engine_restarts_total",
    help: "Starts of the engine's process after it ended by itself",
    registers,
  });
  const requests = new Histogram({
    name: "qedit_http_request_seconds",
    help: "Seconds of HTTP requests, without those whose answer is a stream",
    labelNames: ["method", "route", "status"],
    buckets: SECONDS,
    registers,
  });
  new Gauge({ name: "qedit_build_info", help: "Version of qedit", labelNames: ["version"], registers }).set(
    { version },
    1,
  );
  gauges(server, registers);
  return {
    observe(event) {
      if (event.kind === "restart") restarts.inc();
      if (event.kind === "ended") jobs.inc({ state: event.job.state });
      if (event.kind === "started") waits.observe(secondsSince(event.job.created));
      if (event.kind === "stage started") waits.observe({ stage: event.stage }, event.waited);
      if (event.kind === "stage ended") jobs.inc({ state: event.state, stage: event.stage });
      if (event.kind !== "service") return;
      const { event: inner } = event;
      if (inner.kind === "end") stages.observe({ stage: inner.stage }, inner.seconds);
      if (inner.kind === "step" && inner.step > 0) steps.observe(inner.seconds);
      if (inner.kind === "cache" && inner.action === "hit") cache.inc({ stage: inner.stage });
      if (inner.kind !== "note" || !inner.evaluations) return;
      evaluations.inc({ computed: "whole" }, inner.evaluations.whole);
      evaluations.inc({ computed: "first block" }, inner.evaluations.reused);
    },
    answered: ({ method, route, status, seconds }) =>
      requests.observe({ method, route, status: String(status) }, seconds),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

// Read when they are collected.
function gauges(server: () => EditServer, registers: Registry[]): void {
  const gauge = (
    name: string,
    help: string,
    collect: (gauge: Gauge) => void | Promise<void>,
    labelNames: string[] = [],
  ) =>
    new Gauge({
      ...{ name, help, labelNames, registers },
      async collect() {
        this.reset();
        await collect(this);
      },
    });
  const ofLoads = (own: Gauge, value: (load: Load) => number) => {
    own.set(value(server().load()));
    for (const [stage, load] of server().stages.loads) own.set({ stage }, value(load));
  };
  gauge(
    "qedit_queue_depth",
    "Jobs that wait; with a stage: single stages that were asked for",
    (own) => ofLoads(own, ({ queued }) => queued),
    ["stage"],
  );
  gauge(
    "qedit_jobs_running",
    "Jobs that run; with a stage: single stages that were asked for",
    (own) => ofLoads(own, ({ running }) => running),
    ["stage"],
  );
  gauge("qedit_ready", "Whether the server takes jobs", (own) => own.set(server().phase === "ready" ? 1 : 0));
  const ofSessions = (own: Gauge, value: (session: { readonly bytes: number }) => number) => {
    for (const session of server().service.sessions()) {
      const labels = { network: session.network, device: deviceName(session.device) };
      own.inc(labels, value(session));
    }
  };
  const labels = ["network", "device"];
  gauge("qedit_sessions_open", "Networks that are open", (own) => ofSessions(own, () => 1), labels);
  gauge(
    "qedit_session_weights_bytes",
    "Bytes of weights of open networks, as stored",
    (own) => ofSessions(own, ({ bytes }) => bytes),
    labels,
  );
  const memory = async (own: Gauge) => {
    for (const device of server().service.devices) {
      if (device.provider === "cpu") continue;
      const free = await freeMemory(device);
      if (free !== undefined) own.set({ device: deviceName(device) }, free);
    }
  };
  gauge("qedit_gpu_memory_free_bytes", "Free memory of the GPU", memory, ["device"]);
  loopDelay(gauge);
  gauge("qedit_resident_memory_bytes", "Resident memory of the server's process, without the engine's", (own) =>
    own.set(process.memoryUsage.rss()),
  );
}

// The 99th percentile between two collections: how long a probe or an event may wait for other work of this process.
function loopDelay(gauge: (name: string, help: string, collect: (own: Gauge) => void) => void): void {
  const delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION });
  delay.enable();
  gauge(
    "qedit_event_loop_delay_seconds",
    "99th percentile of the event loop's delay since the last collection",
    (own) => {
      // What is measured is the time between two ticks of a timer.
      own.set(Math.max(0, delay.percentile(99) / 1e9 - LOOP_RESOLUTION / 1000));
      delay.reset();
    },
  );
}

function secondsSince(time: string): number {
  return Math.max(0, (Date.now() - Date.parse(time)) / 1000);
}
