// Servers that refuse, break off, are of another version or answer nonsense: one clear line, and nothing half-written.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { DEFAULT_LIMITS } from "../../src/server/limits.js";
import { CAT, type Ended, expectRefusal, qedit, workFolder } from "./qedit.js";
import { SMALL } from "./there.js";

const folder = workFolder();
const RUN = ["run", CAT, "-p", "make it black and white", ...SMALL, "-o", "out.png"];
const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
const LIMITS = { ...DEFAULT_LIMITS, body: 1e8 };
const STATUS = {
  version,
  phase: "ready",
  device: "cpu",
  queued: 0,
  running: 0,
  limits: LIMITS,
  jobs: [],
  sessions: [],
};
const JOB = { id: "job-1", state: "queued", parameters: {}, inputs: [] };

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  expect(folder.names().filter((name) => /out\.png|\.tmp$/.test(name))).toEqual([]);
});

async function listen(listener: RequestListener, where?: string): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  if (where === undefined) server.listen(0, "127.0.0.1");
  else server.listen(where);
  await once(server, "listening");
  return where === undefined ? `http://127.0.0.1:${(server.address() as AddressInfo).port}` : `unix:${where}`;
}

/** A server of given answers by method and path; what is not given is answered as a good server does until a job's end. */
function answering(
  answers: Readonly<
    Record<string, (send: (status: number, body: unknown) => void, response: Parameters<RequestListener>[1]) => void>
  >,
): RequestListener {
  return (request, response) => {
    request.resume();
    const call = `${request.method} ${request.url}`;
    const send = (status: number, body: unknown) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    };
    request.on("end", () => {
      const own = answers[call];
      if (own) own(send, response);
      else if (call === "GET /v1/status") send(200, STATUS);
      else if (call === "POST /v1/jobs") send(202, JOB);
      else if (call.startsWith("DELETE ")) send(200, { ...JOB, state: "cancelled" });
      else send(404, { error: { message: "There is nothing", code: "not_found", qedit_code: null, hint: null } });
    });
  };
}

function run(server: string, env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return qedit([...RUN, "--server", server], { cwd: folder.path, env });
}

const events = (...lines: string[]) =>
  ((_send, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(lines.join(""));
  }) satisfies Parameters<typeof answering>[0][string];
const state = (job: object) => `event: state\ndata: ${JSON.stringify(job)}\n\n`;

const RESULT = {
  ...{ sha256: "0".repeat(64), type: "image/png", bytes: 4, width: 1, height: 1, seed: "0", drift: null },
  ...{ device: "cpu", seconds: {}, recipe: { settings: {}, sizes: {}, inputs: {}, weights: {} } },
};

describe("a server that answers", () => {
  test.each([
    ["a page", { "GET /v1/status": (send) => send(200, "<html>") }, /cannot understand.*not JSON/i],
    [
      "another API's errors",
      { "GET /v1/status": (send) => send(404, { detail: "Not Found" }) },
      /HTTP status 404, and not as qedit does/,
    ],
    [
      "a status of another form",
      { "GET /v1/status": (send) => send(200, { ...STATUS, queued: -1 }) },
      /another form, at queued/,
    ],
    [
      "a job with a path as its id",
      { "POST /v1/jobs": (send) => send(202, { ...JOB, id: "../x" }) },
      /another form, at id/,
    ],
    ["no stream of events", { "GET /v1/jobs/job-1/events": (send) => send(200, JOB) }, /no stream of events/],
    [
      "events that are none",
      { "GET /v1/jobs/job-1/events": events("event: progress\ndata: {}\n\n") },
      /another form, at event/,
    ],
    [
      "an end without a result",
      { "GET /v1/jobs/job-1/events": events(state({ ...JOB, state: "completed" })) },
      /another form/,
    ],
    [
      "a picture of another format",
      {
        "GET /v1/jobs/job-1/events": events(
          state({ ...JOB, state: "completed", result: { ...RESULT, type: "text/html" } }),
        ),
      },
      /a picture of the type text\/html/,
    ],
    [
      "another picture than it announced",
      {
        "GET /v1/jobs/job-1/events": events(state({ ...JOB, state: "completed", result: RESULT })),
        "GET /v1/jobs/job-1/content": (send) => send(200, "abcd"),
      },
      /another picture than it announced/,
    ],
    [
      "more than it announced",
      {
        "GET /v1/jobs/job-1/events": events(state({ ...JOB, state: "completed", result: RESULT })),
        "GET /v1/jobs/job-1/content": (send) => send(200, "x".repeat(100_000)),
      },
      /more than 4 bytes/,
    ],
    [
      "streams that end before the job",
      { "GET /v1/jobs/job-1/events": events(state(JOB)), "GET /v1/jobs/job-1": (send) => send(200, JOB) },
      /streams of events that end before the job does/,
    ],
  ] satisfies [string, Parameters<typeof answering>[0], RegExp][])(
    "%s is not understood",
    async (_, answers, message) => {
      expectRefusal(await run(await listen(answering(answers))), { code: 1, message, hint: /--server none/ });
    },
  );

  test("with control characters does not reach the terminal", async () => {
    const error = { code: "QEDIT_E_IMAGE", message: "\u001b[2Jgone", hint: null };
    const failing = answering({ "GET /v1/jobs/job-1/events": events(state({ ...JOB, state: "failed", error })) });
    const ended = await run(await listen(failing));
    expectRefusal(ended, { code: 2, message: /gone/ });
    expect(ended.stderr).not.toContain("\u001b");
  });
});

test.each([
  [
    "a full queue",
    { code: "queue_full", qedit_code: "QEDIT_E_BUSY", message: "The queue is full" },
    429,
    1,
    /queue is full/,
  ],
  [
    "a missing key",
    { code: "unauthorized", qedit_code: null, message: "An API key is needed" },
    401,
    2,
    /an API key is needed/,
  ],
  [
    "a server that stops",
    { code: "draining", qedit_code: "QEDIT_E_TERMINATED", message: "Stopping" },
    503,
    1,
    /it is stopping/,
  ],
  [
    "a body that is too long",
    { code: "payload_too_large", qedit_code: null, message: "The request is longer" },
    413,
    1,
    /the request is longer/,
  ],
  [
    "out of memory",
    { code: "out_of_memory", qedit_code: "QEDIT_E_MEMORY", message: "Memory ran out" },
    500,
    4,
    /Memory ran out/,
  ],
] as const)("%s has its exit code and hint", async (_, error, status, code, message) => {
  const server = answering({ "POST /v1/jobs": (send) => send(status, { error: { ...error, hint: "Do this" } }) });
  expectRefusal(await run(await listen(server)), { code, message, hint: /./ });
});

test("a server of another version is refused when it is named", async () => {
  const old = answering({ "GET /v1/status": (send) => send(200, { version: "0.0.1" }) });
  expectRefusal(await run(await listen(old)), { code: 2, message: /it is qedit 0\.0\.1, this is/ });
});

test("the key of QEDIT_API_KEY is sent, and never shown", async () => {
  const keys: (string | undefined)[] = [];
  const server = await listen((request, response) => {
    keys.push(request.headers.authorization);
    response.writeHead(401, { "content-type": "application/json" });
    response.end(
      JSON.stringify({
        error: { message: "The API key is wrong", code: "unauthorized", qedit_code: null, hint: null },
      }),
    );
  });
  const ended = await run(server, { QEDIT_API_KEY: "a-long-secret" });
  expectRefusal(ended, { code: 2, message: /the API key is wrong/, hint: /QEDIT_API_KEY/ });
  expect(keys).toEqual(["Bearer a-long-secret"]);
  expect(ended.stderr).not.toContain("a-long-secret");
});

test.each(["a\nsecret", "schlüssel"])("a key that no header can carry is refused by its variable: %j", async (key) => {
  const server = await listen(answering({}));
  const ended = await run(server, { QEDIT_API_KEY: key });
  expectRefusal(ended, { code: 2, message: /QEDIT_API_KEY as a key: it holds/, hint: /one word/ });
  expect(ended.stderr).not.toContain(key);
  const remote = await qedit([...RUN, "--remote", `sample=${server}`], {
    cwd: folder.path,
    env: { QEDIT_REMOTE_KEY: key, QEDIT_SERVER: "none" },
  });
  expectRefusal(remote, { code: 2, message: /QEDIT_REMOTE_KEY as a key: it holds/ });
  const serve = await qedit(["serve", "--http", "127.0.0.1:0"], { cwd: folder.path, env: { QEDIT_API_KEY: key } });
  expectRefusal(serve, { code: 2, message: /QEDIT_API_KEY as a key: it holds/ });
});

test.each(["serve", "mcp"])("%s refuses a model that nobody knows when it starts", async (command) => {
  const ended = await qedit([command, "--model", "nope"], { cwd: folder.path });
  expectRefusal(ended, { code: 2, message: /Cannot find a model named "nope"/ });
});

test("no key is sent to a socket, which needs none", async () => {
  const keys: (string | undefined)[] = [];
  const answer = answering({ "GET /v1/status": (send) => send(200, { version: "0.0.1" }) });
  const server = await listen((request, response) => {
    keys.push(request.headers.authorization);
    answer(request, response);
  }, folder.at("own.sock"));
  expectRefusal(await run(server, { QEDIT_API_KEY: "a\nsecret" }), {
    code: 2,
    message: /it is qedit 0\.0\.1, this is/,
  });
  expect(keys).toEqual([undefined]);
});
