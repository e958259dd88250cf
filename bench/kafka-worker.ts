// A worker of bench/kafka.ts: BROKERS STORE STATE MILLISECONDS. Everything but the edit itself is that of `qedit work`.
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { baseSettings } from "../src/cli/actions/serve-edits.js";
import type { Terminal } from "../src/cli/render/terminal.js";
import { openEditServer } from "../src/server/edit-server.js";
import type { JobResult } from "../src/server/job-types.js";
import { openKafkaDoor } from "../src/server/kafka/kafka-door.js";
import { DEFAULT_LIMITS } from "../src/server/limits.js";
import { ServerJob } from "../src/server/server-job.js";
import { fileHash } from "../src/std/file-hash.js";

/** Bytes of a picture of a megapixel as PNG. */
const PICTURE = 1_500_000;

const [brokers, store, state, milliseconds] = process.argv.slice(2) as [string, string, string, string];
mkdirSync(state, { recursive: true });
const terminal = { io: { cwd: state, env: { QEDIT_MODEL: "tiny" } } } as unknown as Terminal;
const server = await openEditServer({
  ...{ state, keepResults: 3600_000, resultsLimit: 1024 ** 3, limits: DEFAULT_LIMITS },
  service: { device: "cpu", threads: 1 },
  base: await baseSettings(new Map(), terminal),
  observe: () => {},
});
await server.ready();
const waiting = {
  ...server,
  service: server.service,
  submit: async ({ parameters }: { parameters: Readonly<Record<string, unknown>> }) => {
    const job = new ServerJob({
      ...{ parameters, inputs: [], mask: undefined, isDurable: false },
      ...{ position: () => 0, cancel: async () => {} },
    });
    job.start();
    void finished(job);
    return job;
  },
};
const log = () => {};
const settings = { brokers, store, group: "bench", retryDelays: [], stages: ["run" as const] };
const door = await openKafkaDoor(settings, waiting as unknown as typeof server, log);
door.start();
process.send!("started");
process.once("SIGTERM", async () => {
  await door.close();
  await server.close();
  process.exit(0);
});

async function finished(job: ServerJob): Promise<void> {
  const end = delay(Number(milliseconds));
  const bytes = randomBytes(PICTURE);
  const result = {
    ...{ sha256: await fileHash(bytes), type: "image/png", bytes: bytes.length, width: 1024, height: 1024 },
    ...{ seed: String(job.parts.parameters["seed"]), drift: null, device: "cpu", seconds: {}, recipe: {} },
  } as unknown as JobResult;
  await end;
  job.complete(job.ending({ state: "completed", result }), async () => bytes);
}
