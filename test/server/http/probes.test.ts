// What an orchestrator asks a server, while it opens a network and while it stops.
import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { childrenOf } from "../../support/processes.js";
import { startServer } from "../../support/server.js";
import { endOf, formOf, jobOf, sendJob } from "../jobs.js";

/** Milliseconds: a tenth of what the deployments' probes wait for. */
const ANSWERS_WITHIN = 1_000;
const OPENS_FOR = 4_000;

const folder = temporaryFolder();
const SMALL = { prompt: "make it black and white", megapixels: "0.02", steps: "2" };

async function probe(url: string, path: string): Promise<number | "closed"> {
  return fetch(`${url}${path}`, { signal: AbortSignal.timeout(ANSWERS_WITHIN) }).then(
    ({ status }) => status,
    (error: Error) => {
      if (error.name === "TimeoutError") throw error;
      return "closed";
    },
  );
}

test("it lives while a network opens, however long that takes", async () => {
  const server = await startServer({ folder: folder.write("opens/.keep", "").replace("/.keep", "") });
  const post = (path: string) => fetch(`${server.url}${path}`, { method: "POST" });
  expect((await post("/v1/models/tiny/load")).status).toBe(200);
  expect((await post("/v1/models/unload")).status).toBe(200);
  const engines = childrenOf(server.child.pid!);
  expect(engines.length).toBeGreaterThan(0);
  // An engine that stands still is one that reads 20 GB: its process answers nothing meanwhile.
  for (const engine of engines) process.kill(engine, "SIGSTOP");
  let isOpen = false;
  const opened = post("/v1/models/tiny/load").finally(() => {
    isOpen = true;
  });
  let asked = 0;
  for (const end = Date.now() + OPENS_FOR; Date.now() < end; asked++) {
    expect(await probe(server.url, "/v2/health/live")).toBe(200);
    expect(await probe(server.url, "/health/live")).toBe(200);
  }
  expect(isOpen).toBe(false);
  expect(asked).toBeGreaterThan(10);
  for (const engine of engines) process.kill(engine, "SIGCONT");
  expect((await opened).status).toBe(200);
  await server.stop();
});

test("told to stop it is not ready at once, lives on until its job is done, and leaves the others to its next start", async () => {
  const own = folder.write("stops/.keep", "").replace("/.keep", "");
  const first = await startServer({ folder: own });
  const running = await sendJob(first.url, formOf([CAT], { ...SMALL, steps: "40", prompt: "make it winter" }));
  const waiting = await sendJob(first.url, formOf([CAT], { ...SMALL, seed: "9" }));
  await expect.poll(async () => (await jobOf(first.url, running.id)).step ?? 0, { timeout: 60_000 }).toBeGreaterThan(0);
  expect(await probe(first.url, "/v2/health/ready")).toBe(200);
  const ended = first.stop();
  await expect.poll(() => probe(first.url, "/v2/health/ready"), { timeout: ANSWERS_WITHIN, interval: 20 }).toBe(503);
  expect(await probe(first.url, "/health/ready")).toBe(503);
  expect(await probe(first.url, "/v2/health/live")).toBe(200);
  expect((await jobOf(first.url, running.id)).state).toBe("running");
  // From here on the port may close at any time, but never says that it is ready again.
  const seen = new Set<number | "closed">();
  for (let answer: number | "closed" = 503; answer !== "closed"; )
    seen.add((answer = await probe(first.url, "/v2/health/ready")));
  expect([...seen]).toEqual([503, "closed"]);
  expect((await ended).code).toBe(0);
  const second = await startServer({ folder: own });
  expect((await jobOf(second.url, running.id)).state).toBe("completed");
  expect((await endOf(second.url, waiting.id)).state).toBe("completed");
  await second.stop();
});

test("a client that leaves within its body is no error of the server", async () => {
  const server = await startServer({ folder: folder.write("leaves/.keep", "").replace("/.keep", "") });
  const { hostname, port } = new URL(server.url);
  for (const path of ["/v1/jobs", "/v1/images/edits", "/v2/models/qedit/infer"]) {
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    const head = [
      `POST ${path} HTTP/1.1`,
      "Host: localhost",
      "Content-Type: application/json",
      "Content-Length: 999",
      "",
      "{",
    ];
    socket.end(head.join("\r\n"));
    await expect.poll(() => server.log.filter((line) => line["path"] === path)).toHaveLength(1);
    socket.destroy();
  }
  const answered = server.log.filter((line) => "status" in line && line["method"] === "POST");
  expect(answered.map(({ status, err }) => [status, err])).toEqual(
    [400, 400, 400].map((status) => [status, undefined]),
  );
  await server.stop();
});
