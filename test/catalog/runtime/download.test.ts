// Downloads from a server that cuts, lies and refuses.
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import * as v from "valibot";
import { beforeEach, describe, expect, test } from "vitest";
import { fetchJson } from "../../../src/catalog/download/fetch-json.js";
import { downloadPackage, type Package } from "../../../src/catalog/runtime/download-package.js";
import type { ProgressEvent } from "../../../src/std/events.js";
import { temporaryFolder } from "../../support/folder.js";
import { serve, testServer } from "./server.js";

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
const wanted = (digest: Package["digest"] = { algorithm: "sha256", hex: hash("sha256") }): Package => ({
  url: `${server.url}/provider.nupkg`,
  name: "provider.nupkg",
  digest,
});
const get = (what = wanted(), emit: (event: ProgressEvent) => void = () => {}) =>
  downloadPackage(what, { folder, emit, signal, firstWait: 1 });
const unknown = (): Package => ({ ...wanted(), digest: undefined });

// Bytes that an earlier call left of the package, and the version it was of.
function leave(part: Buffer, etag: string | undefined): void {
  const done = [{ start: 0, end: part.length }];
  temporary.write(`to/${count - 1}/provider.nupkg.part`, part);
  temporary.write(
    `to/${count - 1}/provider.nupkg.part.json`,
    JSON.stringify({ bytes: bytes.length, ...(etag === undefined ? {} : { etag }), done }),
  );
}

// The first bytes of the ranges that were asked for, without those that only ask which version there is.
const starts = () =>
  server.seen.flatMap(({ range }) => {
    const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    return start === end ? [] : [Number(start)];
  });

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
    serve(bytes, { most: index < 22 ? 14_000 : Infinity })(response, request, index),
  );
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
  expect(starts()).toHaveLength(21);
  expect(starts()).toEqual(starts().toSorted((a, b) => a - b));
  expect(new Set(starts()).size).toBe(21);
});

test("goes on where another call stopped", async () => {
  const controller = new AbortController();
  server.behave((response, request, index) => serve(bytes, { most: 100_000 })(response, request, index));
  const stopped = downloadPackage(wanted(), {
    folder,
    signal: controller.signal,
    emit: ({ kind }) => kind === "detail" && controller.abort(new Error("stopped")),
  });
  await expect(stopped).rejects.toThrow("stopped");
  server.behave(serve(bytes));
  await get();
  expect(starts()).toEqual([100_002]);
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("takes a part that is whole already", async () => {
  leave(bytes, "one");
  server.behave(serve(bytes));
  expect((await get()).bytes).toBe(bytes.length);
  expect(starts()).toEqual([]);
});

test("begins again when the file has changed in between", async () => {
  leave(Buffer.alloc(5000, 7), "zero");
  server.behave(serve(bytes));
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("without a version from the server goes on when the hash is known, and begins again when it is not", async () => {
  const head = bytes.subarray(0, 1000);
  server.behave(serve(bytes, { etag: null }));
  leave(head, undefined);
  await get();
  expect(starts()).toEqual([1001]);
  server.behave(serve(bytes, { etag: null }));
  leave(head, undefined);
  await get(unknown());
  expect(starts()).toEqual([0]);
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("begins again with a server that knows no ranges", async () => {
  server.behave((response, _request, index) => {
    response.writeHead(200, { "content-length": bytes.length, etag: '"one"' });
    if (index > 2) return void response.end(bytes);
    response.write(bytes.subarray(0, 1000), () => setTimeout(() => response.destroy(), 80));
  });
  await get();
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
});

test("takes a file whose length the server does not say", async () => {
  server.behave((response) => {
    response.writeHead(200, { "transfer-encoding": "chunked" });
    response.write(bytes.subarray(0, 1000));
    setTimeout(() => response.end(bytes.subarray(1000)), 20);
  });
  const events: ProgressEvent[] = [];
  expect(await get(unknown(), (event) => events.push(event))).toMatchObject({ bytes: bytes.length });
  expect(readFileSync(`${folder}/provider.nupkg`).equals(bytes)).toBe(true);
  expect(events.at(-1)).toMatchObject({ kind: "transfer", bytes: bytes.length, total: undefined });
});

test("tries again when the server is busy", async () => {
  server.behave((response, request, index) =>
    index < 2 ? void response.writeHead(index === 0 ? 503 : 429).end() : serve(bytes)(response, request, index),
  );
  await get();
  expect(server.seen.length).toBe(5);
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
      hint: expect.stringContaining("provider.nupkg.wrong"),
    });
    expect(existsSync(`${folder}/provider.nupkg`)).toBe(false);
    expect(readFileSync(`${folder}/provider.nupkg.wrong`).equals(bytes)).toBe(true);
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
      message: expect.stringMatching(/^Cannot download provider\.nupkg: 127\.0\.0\.1:\d+: [^\n]+, 30 times in a row/),
    });
  });

  test("a folder that cannot be made", async () => {
    temporary.write("file", "");
    await expect(
      downloadPackage(wanted(), { folder: temporary.at("file/below"), emit() {}, signal }),
    ).rejects.toMatchObject({
      code: "QEDIT_E_IO",
    });
  });

  test("JSON of another form", async () => {
    server.behave((response) => void response.end('{"files":{}}'));
    const url = `${server.url}/index.json`;
    await expect(
      fetchJson(url, v.object({ files: v.array(v.string()) }), { signal, hint: "Check" }),
    ).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: `Cannot fetch ${url}: files is not of the expected form`,
    });
  });

  test("JSON that is none", async () => {
    server.behave((response) => void response.end("<html>"));
    await expect(
      fetchJson(`${server.url}/index.json`, v.unknown(), { signal, hint: "Check it" }),
    ).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
    });
  });
});
