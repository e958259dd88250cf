// npm run bench:serve [-- --edits N --long N]: warm edits by the server against `qedit run` and against the same edits in one process; requests a
// second and latency with 1, 4 and 16 clients; the event loop's delay; memory over many edits. Prints tables, writes results/serve.json.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findModelFiles } from "../src/catalog/local/find.js";
import { EDIT_PARAMETERS } from "../src/edit/parameters/table.js";
import { readSettings } from "../src/edit/recipe/recipe-settings.js";
import { modelLibrary } from "../src/edit/resolve/model-library.js";
import { openModels, type ResolvedEdit, withNumbers } from "../src/edit/resolve/resolve-edit.js";
import { type EditService, openService } from "../src/edit/service/service.js";
import { encodeDecoded } from "../src/stages/decode.js";
import { readPictures } from "../src/stages/pictures.js";
import { formOf } from "../test/server/jobs.js";
import { grpcClient, inferGrpc } from "../test/server/kserve/grpc-client.js";
import { childrenOf, residentMegabytes } from "../test/support/processes.js";
import { startServer } from "../test/support/server.js";
import { machineFacts, now } from "./report.js";

const CAT = fileURLToPath(new URL("../fixtures/images/cat.jpg", import.meta.url));
const BIN = fileURLToPath(new URL("../bin/qedit.js", import.meta.url));
const RESULTS = fileURLToPath(new URL("./results/serve.json", import.meta.url));
/** 0.06 megapixels: what a server adds shows beside a short edit. */
const FIELDS = { prompt: "make it black and white", megapixels: "0.06", steps: "4", cfg: "1" };
const CLIENTS = [1, 4, 16];
const COLD_RUNS = 5;
const TENSOR_CALLS = 20;

const { values } = parseArgs({
  options: { edits: { type: "string", default: "60" }, long: { type: "string", default: "1000" } },
});
const edits = Number(values.edits);
const long = Number(values.long);
const folder = mkdtempSync(join(tmpdir(), "qedit-bench-serve-"));
const server = await startServer({
  folder,
  args: ["--threads", "2", "--no-cache", "--metrics", "--keep-alive", "forever", "--grpc", "127.0.0.1:0"],
});
const grpc = grpcClient(String(server.log.find(({ grpc: address }) => address !== undefined)!["grpc"]));
const service = await openService({
  ...{ device: "cpu", threads: 2, keepAlive: Number.POSITIVE_INFINITY },
  emit: () => {},
  signal: new AbortController().signal,
});
try {
  const resolved = await resolvedEdit();
  const cold = await times(COLD_RUNS, () => command());
  for (let warm = 0; warm < 3; warm += 1) {
    await inProcess(service, resolved);
    await byServer();
  }
  // In turns: the machine is the same for both.
  const [direct, served]: [number[], number[]] = [[], []];
  for (let index = 0; index < edits; index += 1) {
    direct.push(await timed(() => inProcess(service, resolved)));
    served.push(await timed(byServer));
  }
  await service.close();
  const loads = [];
  for (const clients of CLIENTS) loads.push({ clients, ...(await load(clients, Math.max(edits, clients * 4))) });
  const tensor = median(await times(TENSOR_CALLS, () => sendTensor()));
  const memory = await memoryOver(long);
  const overhead = median(served) - median(direct);
  const results = {
    date: now(),
    machine: machineFacts(),
    edit: FIELDS,
    seconds: {
      cold: median(cold),
      direct: median(direct),
      served: median(served),
      overhead,
      share: overhead / median(direct),
    },
    loads,
    tensor,
    memory,
  };
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  print(results);
} finally {
  grpc.close();
  await server.stop("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}

async function resolvedEdit(): Promise<ResolvedEdit> {
  const found = await findModelFiles({}, { model: "tiny", roles: ["vae", "textEncoder", "transformer"] });
  const files = { vae: found.vae!, textEncoder: found.textEncoder!, transformer: found.transformer!, loras: [] };
  const models = await openModels(files, { strictLora: false }, { library: modelLibrary(), emit: () => {} });
  return { settings: withNumbers(readSettings(EDIT_PARAMETERS, FIELDS)), models, files };
}

// What the server does as well: reads the picture, edits it, encodes the result.
async function inProcess(own: EditService, resolved: ResolvedEdit): Promise<void> {
  const pictures = readPictures([CAT]);
  const job = own.submit({
    resolved,
    pictures: () => pictures,
    onPicture: async (picture) => void (await encodeDecoded(picture, { format: "png" })),
  });
  const outcome = await job.outcome;
  if (outcome.state === "failed") throw outcome.error;
}

async function byServer(): Promise<void> {
  const body = formOf([CAT], { ...FIELDS, model: "tiny" });
  const response = await fetch(`${server.url}/v1/images/edits`, { method: "POST", body });
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  await response.arrayBuffer();
}

async function command(): Promise<void> {
  const flags = Object.entries(FIELDS).flatMap(([name, value]) => [`--${name}`, value]);
  const args = ["run", CAT, "--model", "tiny", "--no-cache", ...flags, "-f", "-q", "-o", join(folder, "out.png")];
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { ...process.env, QEDIT_HOME: folder, QEDIT_SERVER: "none" },
    stdio: "inherit",
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`qedit run ended with ${String(code)}`);
}

// 16 MB by gRPC. What is read of it is a latent larger than this server decodes: the answer says so, and nothing is computed.
async function sendTensor(): Promise<void> {
  const shape = [1, 16, 512, 512];
  const latent = { name: "latent_tensor", datatype: "FP32", shape, bytes: Buffer.alloc(16 * 512 * 512 * 4) } as const;
  await inferGrpc(grpc, "decode", { inputs: [latent] }).then(
    () => {
      throw new Error("a latent of 16 megapixels was decoded");
    },
    (error: Error) => {
      if (!error.message.includes("megapixels")) throw error;
    },
  );
}

async function load(clients: number, count: number) {
  await metric("qedit_event_loop_delay_seconds");
  const latencies: number[] = [];
  let begun = 0;
  const start = performance.now();
  const client = async () => {
    while (begun < count) {
      begun += 1;
      latencies.push(await timed(byServer));
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - start) / 1000;
  return {
    edits: count,
    perSecond: count / seconds,
    p50: quantile(latencies, 0.5),
    p95: quantile(latencies, 0.95),
    p99: quantile(latencies, 0.99),
    loopDelayP99: await metric("qedit_event_loop_delay_seconds"),
  };
}

async function memoryOver(count: number) {
  const points = [];
  for (let done = 0; done <= count; done += Math.max(1, Math.round(count / 10))) {
    if (done > 0) await load(4, Math.max(1, Math.round(count / 10)));
    points.push({
      edits: done,
      serverMB: residentMegabytes(server.child.pid!),
      engineMB: childrenOf(server.child.pid!).reduce((sum, pid) => sum + residentMegabytes(pid), 0),
    });
  }
  return points;
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (.*)$`, "m").exec(text)?.[1]);
}

async function times(count: number, work: () => Promise<void>): Promise<number[]> {
  const all: number[] = [];
  for (let index = 0; index < count; index += 1) all.push(await timed(work));
  return all;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

function median(list: readonly number[]): number {
  return quantile(list, 0.5);
}

function quantile(list: readonly number[], share: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

interface Results {
  readonly seconds: {
    readonly cold: number;
    readonly direct: number;
    readonly served: number;
    readonly overhead: number;
    readonly share: number;
  };
  readonly loads: readonly (Awaited<ReturnType<typeof load>> & { readonly clients: number })[];
  readonly tensor: number;
  readonly memory: Awaited<ReturnType<typeof memoryOver>>;
}

function print({ seconds, loads, tensor, memory }: Results): void {
  const ms = (value: number) => `${(value * 1000).toFixed(0)} ms`;
  console.log(
    `qedit run ${ms(seconds.cold)}, warm in one process ${ms(seconds.direct)}, warm by the server ${ms(seconds.served)}: ${ms(seconds.overhead)} more, ${(seconds.share * 100).toFixed(1)} %`,
  );
  console.log(
    "| clients | edits a second | p50 | p95 | p99 | event loop delay, p99 |\n| --- | --- | --- | --- | --- | --- |",
  );
  for (const { clients, perSecond, p50, p95, p99, loopDelayP99 } of loads)
    console.log(
      `| ${clients} | ${perSecond.toFixed(2)} | ${ms(p50)} | ${ms(p95)} | ${ms(p99)} | ${ms(loopDelayP99)} |`,
    );
  console.log(`a tensor of 16 MB by gRPC, read and answered: ${ms(tensor)}`);
  for (const { edits: done, serverMB, engineMB } of memory)
    console.log(`${done} edits: server ${serverMB} MB, engine ${engineMB} MB`);
}
