// npm run test:attacks -- [--requests N] [--seed N]: sends malformed requests to a real server, over HTTP and gRPC. It must answer or refuse each one within its time, never with a
// 5xx, live on, and stay within its memory; in between, real edits have the right bytes. Needs `npm run build`.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileHash } from "../../src/std/file-hash.js";
import { contentOf, endOf, formOf, sendJob } from "../server/jobs.js";
import { fixture } from "../support/golden.js";
import { residentMegabytes } from "../support/processes.js";
import { startServer } from "../support/server.js";
import { grpcAttacker } from "./grpc-requests.js";
import { malformed, type RawRequest } from "./requests.js";

/** Milliseconds in which a request must be answered or its connection closed. */
const ANSWER_WITHIN = 20_000;
/** Resident memory of the server, MB. */
const MOST_MEMORY = 700;
const AT_ONCE = 16;
/** Share of calls over gRPC. */
const GRPC_SHARE = 0.3;

const { values } = parseArgs({
  options: { requests: { type: "string", default: "2000" }, seed: { type: "string", default: "1" } },
});
let state = Number(values.seed) || 1;
const total = Number(values.requests);
const folder = mkdtempSync(join(tmpdir(), "qedit-attacks-"));
const server = await startServer({ folder, args: ["--no-cache", "--max-body", "8M", "--grpc", "127.0.0.1:0"] });
const port = Number(new URL(server.url).port);
const pictures = ["images/cat.jpg", "images/rocket.jpg"].map((name) => readFileSync(fixture(name)));
const EDIT = { prompt: "make it black and white", megapixels: "0.01", steps: "2" };

const grpc = grpcAttacker(String(server.log.find(({ grpc: address }) => address !== undefined)!["grpc"]), random);
/** Statuses that say that the server failed: UNKNOWN, INTERNAL, DATA_LOSS; DEADLINE_EXCEEDED is a hang. */
const GRPC_FAULTS = ["grpc 2", "grpc 4", "grpc 13", "grpc 15"];

const statuses = new Map<string, number>();
const faults: string[] = [];
let memory = 0;
const right = await hashOfEdit();
let sent = 0;
await Promise.all(Array.from({ length: AT_ONCE }, client));
if ((await hashOfEdit()) !== right) faults.push("an edit has other bytes afterwards");
grpc.close();
const idle = await server.stop();
if (idle.code !== 0) faults.push(`the server ended with ${String(idle.code)}`);
rmSync(folder, { recursive: true, force: true });
console.log(
  `${sent} requests, ${[...statuses]
    .sort()
    .map(([status, count]) => `${count} ${status}`)
    .join(", ")}; ${memory} MB at most; ${faults.length} faults`,
);
for (const fault of faults.slice(0, 20)) console.log(fault);
if (faults.length > 0) process.exitCode = 1;

async function client(): Promise<void> {
  while (sent < total && faults.length < 20) {
    sent += 1;
    if (random() < GRPC_SHARE) {
      const status = await grpc.call();
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (GRPC_FAULTS.includes(status) || status === "hangs") faults.push(status);
      continue;
    }
    const request = malformed(random, pictures);
    const status = await answerTo(request);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (/^5/.test(status) || status === "hangs")
      faults.push(
        `${status}: ${JSON.stringify(
          Buffer.concat(request.map((part) => Buffer.from(part)))
            .toString("latin1")
            .slice(0, 400),
        )}`,
      );
    if (server.child.exitCode !== null)
      throw new Error(
        `the server ended: ${server.log
          .slice(-5)
          .map(({ msg }) => msg)
          .join("\n")}`,
      );
    if (sent % 200 === 0) watchMemory();
    if (sent % 2500 === 0 && (await hashOfEdit()) !== right)
      faults.push(`an edit has other bytes after ${sent} requests`);
  }
}

// The status of the answer, "closed" without one.
function answerTo(request: RawRequest): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    const timer = setTimeout(() => end("hangs"), ANSWER_WITHIN);
    const end = (status: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(status);
    };
    socket.on("connect", () => {
      for (const part of request) socket.write(part);
      // What was promised and not sent never comes.
      if (request.length > 0) socket.end();
    });
    socket.on("data", (part) => {
      if (text.length < 100) text += part.toString("latin1");
    });
    socket.on("close", () => end(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? "closed"));
    socket.on("error", () => end(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? "closed"));
  });
}

async function hashOfEdit(): Promise<string> {
  const { id } = await sendJob(server.url, formOf([fixture("images/cat.jpg")], EDIT));
  await endOf(server.url, id);
  return fileHash(await contentOf(server.url, id));
}

function watchMemory(): void {
  const resident = residentMegabytes(server.child.pid!);
  memory = Math.max(memory, resident);
  if (resident > MOST_MEMORY) faults.push(`the server takes ${resident} MB`);
}

// A linear congruential generator (Numerical Recipes): the same requests for the same seed.
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
