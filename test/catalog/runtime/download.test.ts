// Downloads from a server that cuts, lies and refuses.
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { type Download, download, fetchJson } from "../../../src/catalog/runtime/download-package.js";
import type { ProgressEvent } from "../../../src/std/events.js";
import { temporaryFolder } from "../../support/folder.js";
import { type Behaviour, serve, testServer } from "./server.js";

const server = await testServer();
const temporary = temporaryFolder();
const bytes = randomBytes(300_000);
const hash = (algorithm: string, data = bytes) => createHash(algorithm).update(data).digest("hex");
let folder = "";
let count = 0;
beforeEach(() => {
  folder = temporary.at(`to/${count++}`);
});

const signal = new AbortController().signal;
const wanted = (digest: Download["digest"] = { algorithm: "sha256", hex: hash("sha256") }): Download => ({
  url: `${server.url}/provider.nupkg`,
  name: "provider.nupkg",
  digest,
});
const get = (what = wanted(), emit: (event: ProgressEvent) => void = () => {}) =>
  download(what, { folder, emit, signal });

test("fetches a file, says its bytes and its sha256, and leaves nothing else", async () => {
  server.behave(serve(bytes));
  expect(await get()).toEqual({ path: `${folder}/provider.nupkg`, bytes: bytes.length, sha256: hash("sha256") });
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
  expect(temporary.names().filter((name) => name.startsWith(`to/${count - 1}/`))).toEqual([
    `to/${count - 1}/provider.nupkg`,
  ]);
});

test("survives being cut twenty times, and asks each time for the rest only", async () => {
  server.behave((response, request, index) =>
    serve(bytes, { most: index < 20 ? 14_000 : Infinity })(response, request, index),
  );
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
  expect(server.seen.length).toBe(21);
  expect(server.seen.slice(1).every(({ range }) => /^bytes=\d+-$/.test(range ?? ""))).toBe(true);
});

test("goes on where another call stopped", async () => {
  const controller = new AbortController();
  server.behave((response, request, index) => serve(bytes, { most: 100_000 })(response, request, index));
  const stopped = download(wanted(), {
    folder,
    signal: controller.signal,
    emit: ({ kind }) => kind === "detail" && controller.abort(new Error("stopped")),
  });
  await expect(stopped).rejects.toThrow("stopped");
  server.behave(serve(bytes));
  await get();
  expect(server.seen).toEqual([{ path: "/provider.nupkg", range: "bytes=100000-" }]);
});

test("takes a part that is whole already", async () => {
  temporary.write(`to/${count - 1}/provider.nupkg.part`, bytes);
  temporary.write(`to/${count - 1}/provider.nupkg.part.tag`, '"one"');
  server.behave(serve(bytes));
  expect((await get()).bytes).toBe(bytes.length);
});

test("begins again when the file has changed in between", async () => {
  temporary.write(`to/${count - 1}/provider.nupkg.part`, Buffer.alloc(5000, 7));
  temporary.write(`to/${count - 1}/provider.nupkg.part.tag`, '"zero"');
  server.behave(serve(bytes));
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("goes on without a name for the version when the hash is known, and begins again when it is not", async () => {
  const nameless: Behaviour = (response, request, index) => {
    const start = Number(/\d+/.exec(request.headers.range ?? "")?.[0] ?? 0);
    const headers = start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {};
    response.writeHead(start > 0 ? 206 : 200, { "content-length": bytes.length - start, ...headers });
    if (index > 0) return void response.end(bytes.subarray(start));
    response.write(bytes.subarray(0, 1000), () => setTimeout(() => response.destroy(), 80));
  };
  server.behave(nameless);
  await get();
  expect(server.seen.map(({ range }) => range)).toEqual([undefined, "bytes=1000-"]);
  server.behave(nameless);
  await get({ ...wanted(), digest: undefined });
  expect(server.seen.map(({ range }) => range)).toEqual([undefined, undefined]);
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("begins again with a server that knows no ranges", async () => {
  server.behave((response, _request, index) => {
    response.writeHead(200, { "content-length": bytes.length, etag: '"one"' });
    if (index > 0) return void response.end(bytes);
    response.write(bytes.subarray(0, 1000), () => setTimeout(() => response.destroy(), 80));
  });
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("tries again when the server is busy", async () => {
  server.behave((response, request, index) =>
    index < 2 ? void response.writeHead(index === 0 ? 503 : 429).end() : serve(bytes)(response, request, index),
  );
  await get();
  expect(server.seen.length).toBe(3);
});

test("holds a file to sha512 as well", async () => {
  server.behave(serve(bytes));
  await get(wanted({ algorithm: "sha512", hex: hash("sha512").toUpperCase() }));
});

test("tells how far it is", async () => {
  server.behave(serve(bytes));
  const events: ProgressEvent[] = [];
  await get(wanted(), (event) => events.push(event));
  expect(events[0]).toMatchObject({ kind: "transfer", name: "provider.nupkg", total: bytes.length });
});

describe("refuses, in one line with a hint,", () => {
  test("another hash, and keeps what came aside", async () => {
    server.behave(serve(bytes));
    await expect(get(wanted({ algorithm: "sha256", hex: "00".repeat(32) }))).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: `Cannot take provider.nupkg: its sha256 is ${hash("sha256")}, wanted ${"00".repeat(32)}`,
      hint: expect.stringContaining("provider.nupkg.bad"),
    });
    expect(existsSync(`${folder}/provider.nupkg`)).toBe(false);
    expect(readFileSync(`${folder}/provider.nupkg.bad`).equals(bytes)).toBe(true);
  });

  test.each([401, 403, 404])("an answer of %i, at once", async (status) => {
    server.behave((response) => void response.writeHead(status).end());
    await expect(get()).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: `Cannot fetch ${server.url}/provider.nupkg: the server answers ${status}`,
    });
    expect(server.seen.length).toBe(1);
  });

  test("a server that says more than it sends, again and again", async () => {
    server.behave((response) => {
      response.writeHead(200, { "content-length": 500 });
      response.write("short", () => setTimeout(() => response.destroy(), 80));
    });
    await expect(get()).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringMatching(/^Cannot fetch provider\.nupkg from 127\.0\.0\.1:\d+: [^\n]+$/),
    });
  });

  test("a folder that cannot be made", async () => {
    temporary.write("file", "");
    await expect(download(wanted(), { folder: temporary.at("file/below"), emit() {}, signal })).rejects.toMatchObject({
      code: "QEDIT_E_IO",
    });
  });

  test("JSON that is none", async () => {
    server.behave((response) => void response.end("<html>"));
    await expect(fetchJson(`${server.url}/index.json`, signal)).rejects.toMatchObject({ code: "QEDIT_E_NETWORK" });
  });
});
