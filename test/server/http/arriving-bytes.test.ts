// Bodies of several connections that arrive at once.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Hono } from "hono";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { ArrivingBytes, mostArriving } from "../../../src/server/http/arriving-bytes.js";
import type { HttpEnv } from "../../../src/server/http/http-context.js";
import { errorAnswer } from "../../../src/server/http/http-error.js";
import { type Listener, listenOn } from "../../../src/server/http/listen.js";
import { countArriving, readBytes } from "../../../src/server/http/request-body.js";
import { DEFAULT_LIMITS } from "../../../src/server/limits.js";

/** Bytes of a body, and of all that arrive: three of the longest, not four. */
const BODY = 1_000_000;
const MOST = 3_900_000;

let listener: Listener;
let stalled: Socket[] = [];

beforeAll(async () => {
  const app = new Hono<HttpEnv>();
  app.use(countArriving(new ArrivingBytes(MOST)));
  app.post("/", async (c) => c.text(String((await readBytes(c, { body: BODY })).length)));
  app.post("/taken", async (c) => {
    await readBytes(c, { body: BODY });
    c.var.arriving.release();
    return c.text(await (await post(BODY, "/")).text());
  });
  app.onError((error, c) => {
    const { status, headers, body } = errorAnswer(error);
    return c.json(body, status as 400, headers);
  });
  listener = await listenOn(app, { host: "127.0.0.1", port: 0 });
});
afterAll(() => listener.close());
beforeEach(() => {
  stalled = [];
  return () => {
    for (const socket of stalled) socket.destroy();
  };
});

function post(length: number, path = "/"): Promise<Response> {
  const { host, port } = listener.address;
  return fetch(`http://${host}:${port}${path}`, { method: "POST", body: new Uint8Array(length) });
}

async function stall(head: string, body: Buffer): Promise<void> {
  const socket = connect(listener.address.port, listener.address.host);
  stalled.push(socket);
  await once(socket, "connect");
  socket.write(`POST / HTTP/1.1\r\nHost: localhost\r\n${head}\r\n\r\n`);
  await new Promise((resolve) => socket.write(body, resolve));
}

test("take no more than their room together, and what comes beyond is refused until one has ended", async () => {
  for (let index = 0; index < 3; index += 1) await stall(`Content-Length: ${BODY}`, Buffer.alloc(BODY - 10));
  await expect.poll(async () => (await post(BODY)).status).toBe(429);
  const refused = await post(BODY);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ error: { code: "queue_full", qedit_code: "QEDIT_E_BUSY" } });
  expect((await post(1000)).status).toBe(200);
  stalled[0]!.destroy();
  await expect.poll(async () => (await post(BODY)).status).toBe(200);
});

test("are counted once, and no more when they were answered or dropped", async () => {
  for (let index = 0; index < 10; index += 1) expect(await (await post(BODY)).text()).toBe(String(BODY));
  for (let index = 0; index < 5; index += 1) expect((await post(BODY + 1)).status).toBe(413);
  const together = await Promise.all(Array.from({ length: 3 }, () => post(BODY)));
  expect(together.map(({ status }) => status)).toEqual([200, 200, 200]);
});

test("that the queue has taken leave their room to others", async () => {
  for (let index = 0; index < 2; index += 1) await stall(`Content-Length: ${BODY}`, Buffer.alloc(BODY - 10));
  await expect.poll(async () => (await post(BODY, "/taken")).text()).toBe(String(BODY));
});

test("count with the memory of their parts, which may be of one byte", () => {
  const account = new ArrivingBytes(MOST).account();
  const bytes = () => {
    for (let index = 0; index < 20_000; index += 1) account.add(new Uint8Array(1));
  };
  expect(bytes).toThrow("The queue is full: the requests that arrive take too much memory");
});

test("of the longest have room by the usual limits, and by larger ones", () => {
  expect(mostArriving(DEFAULT_LIMITS)).toBe(1024 ** 3);
  expect(mostArriving({ body: 2e9 })).toBe(4e9);
});
