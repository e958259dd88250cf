// Many requests on one connection before an answer is read.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { Hono } from "hono";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { HttpEnv } from "../../../src/server/http/http-context.js";
import { type Listener, listenOn } from "../../../src/server/http/listen.js";

/** More than the buffers of a connection on loopback take of a few answers. */
const LARGE = 1024 ** 2;
const COUNT = 60;
/** Answers that those buffers take, with room for systems with larger ones. */
const MOST_BUFFERED = 20;
/** Milliseconds in which a server that does not hold back answers all of it. */
const LONG_ENOUGH = 500;

const begun: string[] = [];
let release: () => void;
let held: Promise<void>;
let listener: Listener;
let socket: Socket;

beforeAll(async () => {
  const app = new Hono<HttpEnv>();
  app.use(async (c, next) => {
    begun.push(c.req.path);
    await next();
  });
  app.get("/held", async (c) => {
    await held;
    return c.text("held");
  });
  app.get("/large/:number", (c) => c.body(`${c.req.param("number")};`.padStart(LARGE, " ")));
  app.get("/closes", (c) => c.text("closes", 200, { connection: "close" }));
  app.post("/echo", async (c) => c.text(await c.req.text()));
  app.get("/:number", (c) => c.text(`${c.req.param("number")};`));
  listener = await listenOn(app, { host: "127.0.0.1", port: 0 });
});
afterAll(() => listener.close());
beforeEach(async () => {
  begun.length = 0;
  held = new Promise((resolve) => {
    release = resolve;
  });
  socket = connect(listener.address.port, listener.address.host);
  await once(socket, "connect");
  return () => socket.destroy();
});

const get = (path: string, headers = "") => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;

/** Reads until the text has come that the last answer ends with. */
async function readUntil(end: string): Promise<string> {
  const parts: string[] = [];
  for await (const part of socket.iterator({ destroyOnReturn: false })) {
    parts.push(String(part));
    if (parts.slice(-2).join("").endsWith(end)) break;
  }
  return parts.join("");
}

test("are answered one after the other, in order, and no more of them than the client reads", async () => {
  socket.write(Array.from({ length: COUNT }, (_, index) => get(`/large/${index}`)).join(""));
  await wait(LONG_ENOUGH);
  expect(begun.length).toBeGreaterThan(0);
  expect(begun.length).toBeLessThan(MOST_BUFFERED);
  expect(listener.underWay()).toBe(1);
  const numbers = (await readUntil(`${COUNT - 1};`)).match(/\d+(?=;)/g);
  expect(numbers).toEqual(Array.from({ length: COUNT }, (_, index) => String(index)));
  socket.write(get("/last"));
  expect(await readUntil("last;")).toMatch(/^HTTP\/1.1 200 OK/);
});

test("with bodies keep them", async () => {
  const post = (text: string) =>
    `POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  socket.write(`${get("/held")}${post(`${"x".repeat(300_000)}1`)}${post("2")}`);
  await expect.poll(() => begun).toEqual(["/held"]);
  release();
  expect(await readUntil("\r\n\r\n2")).toMatch(/held[^]*x1HTTP[^]*2$/);
  expect(begun).toEqual(["/held", "/echo", "/echo"]);
});

test("are not read without end while an answer is waited for", async () => {
  const count = 2000;
  const padding = `X-Padding: ${"x".repeat(8000)}\r\n`;
  socket.write(get("/held"));
  for (let index = 0; index < count; index += 1) socket.write(get(`/${index}`, padding));
  await wait(LONG_ENOUGH);
  expect(begun).toEqual(["/held"]);
  // Of 16 MB the buffers of loopback take some.
  expect(socket.writableLength).toBeGreaterThan(LARGE);
  release();
  const numbers = (await readUntil(`${count - 1};`)).match(/\d+(?=;)/g);
  expect(numbers).toEqual(Array.from({ length: count }, (_, index) => String(index)));
});

test("are not begun when their client has gone, and no longer count", async () => {
  socket.write(get("/held") + get("/1") + get("/2"));
  await expect.poll(() => begun).toEqual(["/held"]);
  socket.destroy();
  await expect.poll(() => listener.underWay()).toBe(0);
  release();
  await wait(50);
  expect(begun).toEqual(["/held"]);
});

test("are not begun behind an answer that closes the connection", async () => {
  socket.write(get("/closes") + get("/1"));
  expect(await readUntil("never")).toMatch(/closes$/);
  expect(begun).toEqual(["/closes"]);
});
