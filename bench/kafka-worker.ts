// A worker of bench/kafka.ts: BROKERS STORE STATE MILLISECONDS. Everything but the edit itself is that of `qedit work`.
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { baseSettings } from "../src/cli/actions/serve-edits.js";
import type { Terminal } from "../src/cli/render/terminal.js";
import type { EditService } from "../src/edit/service/service.js";
import { type EditServer, openEditServer } from "../src/server/edit-server.js";
import type { JobResult } from "../src/server/job-types.js";
import { openKafkaDoor } from "../src/server/kafka/kafka-door.js";
import { DEFAULT_LIMITS } from "../src/server/limits.js";
import type { ServerJob } from "../src/server/server-job.js";
import { fileHash } from "../src/std/file-hash.js";

/** Bytes of a picture of a megapixel as PNG. */
const PICTURE = 1_500_000;
/** Characters of a recipe. */
const RECIPE = 4000;

/** A job that has ended. */
export interface Computed {
  /** Milliseconds since the epoch. */
  readonly began: number;
}

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
/** Ends of the jobs that the service has, in their order. */
const ends: Promise<void>[] = [];
// Requests are read, resolved, checked and queued as ever; what is queued computes nothing.
const computed: Pick<EditService, "submit"> = {
  submit() {
    const began = performance.timeOrigin + performance.now();
    const end = delay(Number(milliseconds)).then(() => {
      process.send!({ began } satisfies Computed);
    });
    ends.push(end);
    const outcome = end.then(() => ({ state: "done", seconds: 0, device: "cpu" }) as const);
    return { id: randomUUID(), outcome, cancel() {} };
  },
};
Object.assign(server.service, computed);
const waiting: EditServer = {
  ...server,
  service: server.service,
  prepare: async (request, options) => {
    const prepared = await server.prepare(request, options);
    return {
      async start() {
        const job = await prepared.start();
        job.start();
        void finished(job, ends.shift()!);
        return job;
      },
    };
  },
};
const log = () => {};
const settings = { brokers, store, group: "bench", retryDelays: [], stages: ["run" as const] };
const door = await openKafkaDoor(settings, waiting, log);
door.start();
process.send!("started");
process.once("SIGTERM", async () => {
  await door.close();
  await server.close();
  process.exit(0);
});

async function finished(job: ServerJob, end: Promise<void>): Promise<void> {
  const bytes = randomBytes(PICTURE);
  const result = {
    ...{ sha256: await fileHash(bytes), type: "image/png", bytes: bytes.length, width: 1024, height: 1024 },
    ...{ seed: job.seed, drift: null, device: "cpu", seconds: {}, recipe: { text: "r".repeat(RECIPE) } },
  } as unknown as JobResult;
  await end;
  job.complete(job.ending({ state: "completed", result }), async () => bytes);
}
