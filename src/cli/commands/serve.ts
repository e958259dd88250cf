// qedit serve: keeps models open and answers over HTTP.
import { defaulted, optional, type SettingsOf } from "../../edit/parameters/parameter.js";
import { bytes, duration, number, text, texts, toggle } from "../../edit/parameters/parameter-kinds.js";
import { DEVICE_PARAMETERS, MODEL_PARAMETERS } from "../../edit/parameters/table.js";
import { DEFAULT_LIMITS } from "../../server/limits.js";
import { defineCommand } from "../command.js";
import { workerOptions } from "../settings/kafka-options.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, manyOptions } from "../settings/shared-options.js";

const MINUTE = 60_000;
const { model, modelsDir } = MODEL_PARAMETERS;

/** The options of `serve`. */
export const serveOptions = {
  http: defaulted(text, "127.0.0.1:8000", {
    summary: "where to answer over HTTP; port 0 takes a free one, none leaves it out",
    group: "Server",
    scope: "user",
    placeholder: "<[host:]port>",
  }),
  metrics: defaulted(toggle, false, {
    summary: "answer /metrics, for Prometheus",
    group: "Server",
    scope: "user",
  }),
  grpc: optional(text, {
    summary: "where to answer over gRPC, as KServe V2 and Triton's clients call it; port 0 takes a free one",
    group: "Server",
    scope: "user",
    placeholder: "<[host:]port>",
    initialText: "nowhere",
  }),
  apiKey: optional(text, {
    summary: "key that clients must send as a bearer token; better in QEDIT_API_KEY or a file",
    group: "Server",
    scope: "user",
    placeholder: "<key>",
  }),
  apiKeyFile: optional(text, {
    summary: "file with that key",
    group: "Server",
    scope: "user",
    placeholder: "<file>",
  }),
  insecure: defaulted(toggle, false, {
    summary: "answer other machines without a key",
    group: "Server",
    scope: "user",
  }),
  socket: optional(text, {
    summary: "socket for this user's own calls; none leaves it out",
    group: "Server",
    scope: "user",
    placeholder: "<file>",
    initialText: "qedit.sock in the runtime folder",
  }),
  state: optional(text, {
    summary: "folder of accepted jobs and of results, one server at a time",
    group: "Server",
    scope: "user",
    placeholder: "<folder>",
    initialText: "server in the state folder",
  }),
  keepResults: defaulted(duration, 7 * 24 * 60 * MINUTE, {
    summary: "how long jobs that have ended are kept with their pictures",
    group: "Server",
    scope: "user",
    placeholder: "<duration>",
    initialText: "7d",
  }),
  resultsLimit: defaulted(bytes(), 4 * 1024 ** 3, {
    summary: "most bytes of them; the oldest go first",
    group: "Server",
    scope: "user",
    placeholder: "<size>",
    initialText: "4G",
  }),
  keepAlive: defaulted(duration, 5 * MINUTE, {
    summary: "how long networks stay open without a job: 30s, 5m, forever",
    group: "Server",
    scope: "user",
    placeholder: "<duration>",
    initialText: "5m",
  }),
  load: defaulted(texts, [], {
    summary: "model to open before the server is ready; repeatable",
    group: "Server",
    scope: "user",
    placeholder: "<model>",
  }),
  watch: defaulted(texts, [], {
    summary: "folder whose NAME.job.json files, or pictures beside prompt.txt, are edited; repeatable",
    group: "Server",
    scope: "user",
    placeholder: "<folder>",
  }),
  grace: defaulted(duration, MINUTE / 2, {
    summary: "how long the running job may go on after SIGTERM",
    group: "Server",
    scope: "user",
    placeholder: "<duration>",
    initialText: "30s",
  }),
  maxQueue: defaulted(number({ minimum: 1, maximum: 10_000, whole: true }), DEFAULT_LIMITS.queue, {
    summary: "most jobs that wait or run",
    group: "Server",
    scope: "user",
    placeholder: "<count>",
  }),
  maxBody: defaulted(bytes(), DEFAULT_LIMITS.body, {
    summary: "most bytes of a request",
    group: "Server",
    scope: "user",
    placeholder: "<size>",
    initialText: "256M",
  }),
  maxMegapixels: defaulted(number({ minimum: 0.01 }), DEFAULT_LIMITS.megapixels, {
    summary: "most pixels of a result, in units of 1024²",
    group: "Server",
    scope: "user",
    placeholder: "<count>",
  }),
  maxSteps: defaulted(number({ minimum: 1, maximum: 10_000, whole: true }), DEFAULT_LIMITS.steps, {
    summary: "most steps of a job",
    group: "Server",
    scope: "user",
    placeholder: "<count>",
  }),
  allowUrls: defaulted(texts, [], {
    summary: "host from which pictures may be fetched by https URLs; repeatable",
    group: "Server",
    scope: "user",
    placeholder: "<host>",
  }),
  ...workerOptions,
  model,
  modelsDir,
  ...DEVICE_PARAMETERS,
  ...manyOptions,
  ...cacheOptions,
  ...remoteOptions,
};

/** Their values. */
export type ServeCommandSettings = SettingsOf<typeof serveOptions>;

/** `qedit serve`. */
export const serveCommand = defineCommand({
  examples: [
    "qedit serve",
    "qedit serve --http 8080 --load qwen-image-edit-2509 --keep-alive forever",
    "qedit serve --kafka broker-1:9092,broker-2:9092 --store /shared/store",
    "QEDIT_API_KEY=$(cat key) qedit serve --http 0.0.0.0:8000",
    "qedit serve status",
  ],
  options: serveOptions,
  commands: [
    {
      name: "status",
      summary: "Show a running server: queue, jobs, open networks, models",
      load: async () => (await import("./serve/control.js")).status,
    },
    {
      name: "load",
      summary: "Open the networks of a model on a running server",
      load: async () => (await import("./serve/control.js")).load,
    },
    {
      name: "unload",
      summary: "Close the networks of a running server that no job uses",
      load: async () => (await import("./serve/control.js")).unload,
    },
    {
      name: "stop",
      summary: "Stop a running server as SIGTERM does, and wait until it has ended",
      load: async () => (await import("./serve/control.js")).stop,
    },
  ],
  async perform(call, terminal) {
    const { serveEdits } = await import("../actions/serve-edits.js");
    await serveEdits(call, terminal);
  },
});
