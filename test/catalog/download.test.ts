// Downloads from a local server that cuts, lies, refuses and redirects.

import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { downloadFile, removeDownloadLeftovers } from "../../src/catalog/download/download-file.js";
import type { FetchOptions } from "../../src/catalog/download/fetch-file.js";
import { redirected } from "../../src/catalog/download/http.js";
import { hubRemote } from "../../src/catalog/download/hub.js";
import type { DownloadEvent } from "../../src/catalog/download/progress.js";
import { readReceipt } from "../../src/catalog/download/receipt.js";
import type { HubFile } from "../../src/catalog/published/models-schema.js";
import { NO_PROCESS } from "../support/leftovers.js";
import { fileBytes, type HubServer, hubServer, type Manners, sha256Of } from "./hub-server.js";

const BYTES = fileBytes(3_000_001);
const FILE: HubFile = {
  file: "weights.safetensors",
  bytes: BYTES.length,
  sha256: sha256Of(BYTES),
  licence: "MIT",
  repository: "owner/model",
  path: "split files/weights.safetensors",
  revision: "main",
};
const PATH = "owner/model/resolve/main/split files/weights.safetensors";

let folder: string;
let target: string;
let events: DownloadEvent[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "qedit-download-"));
  target = join(folder, FILE.file);
  events = [];
  vi.stubEnv("HF_TOKEN", "");
  vi.stubEnv("HF_HOME", folder);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

function serverOf(manners: Manners = {}, host?: string): Promise<HubServer> {
  return hubServer({ [PATH]: BYTES }, manners, host);
}

function download(
  server: HubServer,
  { file = FILE, signal = new AbortController().signal, ...options }: Partial<FetchOptions> & { file?: HubFile } = {},
) {
  vi.stubEnv("HF_ENDPOINT", server.endpoint);
  return downloadFile(file, target, {
    signal,
    emit: (event) => events.push(event),
    pieceBytes: 100_000,
    connections: 4,
    firstWait: 5,
    ...options,
  });
}

async function expectWhole(): Promise<void> {
  expect((await readFile(target)).equals(BYTES)).toBe(true);
  const left = (await readdir(folder)).sort();
  expect(left).toEqual([`.${FILE.file}.qedit.json`, FILE.file]);
}

describe("a download", () => {
  test("comes in pieces over several connections, whole and checked", async () => {
    await using server = await serverOf();
    expect(await download(server)).toEqual({ path: target, sha256: FILE.sha256, isVerified: true });
    await expectWhole();
    expect(server.seen.length).toBeGreaterThan(BYTES.length / 100_000);
    expect(await readReceipt(target)).toMatchObject({
      repository: "owner/model",
      bytes: BYTES.length,
      sha256: FILE.sha256,
    });
    const last = events.findLast(({ kind }) => kind === "progress");
    expect(last).toMatchObject({ done: BYTES.length, total: BYTES.length });
  });

  test("survives 20 random cuts", async () => {
    await using server = await serverOf({ cuts: 20 });
    await download(server);
    expect(server.cutsDone()).toBe(20);
    await expectWhole();
  });

  test("asks only for what a cut left missing", async () => {
    await using server = await serverOf({ cuts: 1, cutAfter: 60_000 });
    await download(server, { connections: 1 });
    expect(server.seen.map(({ range }) => range)).toContain("bytes=60001-100000");
    await expectWhole();
  });

  test("goes on after an interruption, without what is there", async () => {
    await using server = await serverOf({ speed: 1_000_000 });
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("stopped by the test")), 400);
    await expect(download(server, { signal: controller.signal })).rejects.toThrow("stopped by the test");
    expect(existsSync(target)).toBe(false);
    const journal = JSON.parse(await readFile(`${target}.part.json`, "utf8")) as {
      done: { start: number; end: number }[];
    };
    const kept = journal.done.reduce((sum, { start, end }) => sum + end - start, 0);
    expect(kept).toBeGreaterThan(100_000);

    delete server.manners.speed;
    events = [];
    await download(server);
    await expectWhole();
    const first = events.find(({ kind }) => kind === "progress");
    expect(first).toMatchObject({ done: expect.toSatisfy((done: number) => done >= kept) });
  });

  test("of a part whose journal is torn begins again", async () => {
    await using server = await serverOf();
    await writeFile(`${target}.part`, Buffer.alloc(500_000, 1));
    await writeFile(`${target}.part.json`, '{"bytes":30');
    await download(server);
    await expectWhole();
  });

  test("of a part of another version begins again", async () => {
    await using server = await serverOf({ etag: "new" });
    await writeFile(`${target}.part`, Buffer.alloc(500_000, 1));
    await writeFile(
      `${target}.part.json`,
      JSON.stringify({ bytes: BYTES.length, etag: "old", done: [{ start: 0, end: 500_000 }] }),
    );
    await expect(download(server)).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringContaining("changed meanwhile"),
    });
    await download(server);
    await expectWhole();
  });

  test("from a server that ignores ranges comes in one piece", async () => {
    await using server = await serverOf({ ignoresRanges: true });
    await download(server);
    await expectWhole();
  });

  test("from a server that ignores ranges and cuts begins again", async () => {
    await using server = await serverOf({ ignoresRanges: true, cuts: 3, cutAfter: 1_000_000 });
    await download(server);
    await expectWhole();
  });

  test("asks again at once where a server serves smaller ranges", async () => {
    await using server = await serverOf({ largestRange: 30_000 });
    await download(server);
    await expectWhole();
    expect(events.filter(({ kind }) => kind === "retrying")).toEqual([]);
  });

  test("takes no byte more than it asked for", async () => {
    await using server = await serverOf({ surplus: 1000 });
    await download(server);
    await expectWhole();
  });

  test("waits as long as a busy server asks, in seconds or as a date", async () => {
    const soon = new Date(Date.now() + 2000).toUTCString();
    await using server = await serverOf({
      first: [
        { status: 429, headers: { "retry-after": "1" } },
        { status: 503 },
        { status: 500 },
        { status: 429, headers: { "retry-after": soon } },
      ],
    });
    await download(server);
    await expectWhole();
    const waits = events.filter(({ kind }) => kind === "retrying") as Extract<DownloadEvent, { kind: "retrying" }>[];
    expect(waits[0]).toMatchObject({ seconds: 1, reason: expect.stringContaining("429") });
    expect(waits).toHaveLength(4);
  });

  test("gives up on a silent connection and tries again", async () => {
    await using server = await serverOf({ isSilent: true });
    setTimeout(() => (server.manners.isSilent = false), 1500);
    await download(server, { silence: 500 });
    await expectWhole();
    expect(events.some((event) => event.kind === "retrying")).toBe(true);
  });

  test("that another process brought already is not fetched again", async () => {
    await using server = await serverOf();
    await writeFile(target, BYTES);
    await download(server);
    expect(server.seen).toEqual([]);
  });
});

describe("two downloads of one file at once", () => {
  test("do no harm: one waits for the other", async () => {
    await using server = await serverOf({ speed: 2_000_000 });
    const results = await Promise.all([download(server), download(server)]);
    expect(results.map(({ sha256 }) => sha256)).toEqual([FILE.sha256, FILE.sha256]);
    await expectWhole();
    expect(events.filter(({ kind }) => kind === "waiting")).toHaveLength(1);
    // One byte more than once: the one that asks what there is.
    expect(server.seen.length).toBeLessThan((2 * BYTES.length) / 100_000);
  });

  test("the lock of a process that is gone is taken over", async () => {
    await using server = await serverOf();
    const { hostname } = await import("node:os");
    await writeFile(`${target}.lock`, JSON.stringify({ pid: 2 ** 22 - 1, host: hostname() }));
    await download(server);
    await expectWhole();
  });
});

describe("a hash", () => {
  test("that is not the published one is refused, and the part kept aside", async () => {
    await using server = await serverOf();
    const wrong = "0".repeat(64);
    await expect(download(server, { file: { ...FILE, sha256: wrong } })).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringMatching(new RegExp(`${FILE.sha256}, ${wrong} was published`)),
      hint: expect.stringContaining(".wrong"),
    });
    expect((await readdir(folder)).sort()).toEqual([`${FILE.file}.wrong`]);
    await download(server);
    await expectWhole();
  });

  test("that the hub states is checked where none is published", async () => {
    const { sha256: _, ...unknown } = FILE;
    await using server = await serverOf({ linkedEtag: FILE.sha256! });
    expect(await download(server, { file: unknown })).toMatchObject({ isVerified: true });
    await rm(target);
    server.manners.linkedEtag = "1".repeat(64);
    await expect(download(server, { file: unknown })).rejects.toMatchObject({ code: "QEDIT_E_NETWORK" });
  });

  test("that nobody states leaves the file unverified, and says so", async () => {
    const { sha256: _, ...unknown } = FILE;
    await using server = await serverOf();
    expect(await download(server, { file: unknown })).toMatchObject({ isVerified: false, sha256: FILE.sha256 });
  });
});

describe("a server is refused when", () => {
  test.each([
    ["it states another length", { lengthLie: 5 }, /says that it has 3000006 bytes, 3000001 were published/],
    ["it states another length of the whole", { lengthLie: -5, ignoresRanges: true }, /says that it has 2999996 bytes/],
    ["it wants a login", { always: 401 }, /it needs a login \(401\)/],
    ["it refuses access", { always: 403 }, /access is refused \(403\)/],
    ["it has no such file", { always: 404 }, /there is no such file \(404\)/],
    ["it has less", { always: 416 }, /shorter than what was published/],
    ["it answers nonsense", { always: 418 }, /the server answers 418/],
    [
      "it asks to wait for hours",
      { first: [{ status: 429, headers: { "retry-after": "7200" } }] },
      /asks to wait 120 minutes/,
    ],
    ["it stays broken", { always: 500 }, /answers 500, 8 times in a row/],
    ["it sends other ranges", { wrongRange: true }, /8 times in a row/],
  ] satisfies [string, Manners, RegExp][])("%s", async (_, manners, message) => {
    await using server = await serverOf(manners);
    await expect(download(server)).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringMatching(message),
    });
    expect(existsSync(target)).toBe(false);
  });

  test("nobody listens", async () => {
    const server = await serverOf();
    await server[Symbol.asyncDispose]();
    await expect(download(server)).rejects.toMatchObject({
      message: expect.stringMatching(
        /the connection was refused \(ECONNREFUSED\), 3 times in a row; 0 of 3000001 bytes are kept/,
      ),
    });
  });

  test("it leads in circles", async () => {
    await using server = await serverOf();
    server.manners.redirectTo = server.endpoint;
    await expect(download(server)).rejects.toMatchObject({
      message: expect.stringContaining("redirected more than 10 times"),
    });
  });

  test("the disk has no room", async () => {
    await using server = await serverOf();
    await expect(download(server, { file: { ...FILE, bytes: 10 ** 16 } })).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringMatching(/10\.00 PB are needed, .* are free/),
    });
    expect(server.seen).toEqual([]);
  });
});

test.each([
  ["https://a.example/x", "http://a.example/x"],
  ["https://a.example/x", "ftp://a.example/x"],
  ["http://a.example/x", "file:///etc/passwd"],
  ["https://a.example/x", undefined],
])("no redirect is followed from %s to %s", (from, to) => {
  expect(() => redirected(new URL(from), to)).toThrowError(/^Cannot follow a\.example to .*: a secure address/);
});

test("what a download left that was killed at its very end goes, unless a download runs", async () => {
  const target = join(folder, FILE.file);
  const leave = async (pid: number) => {
    await writeFile(`${target}.lock`, JSON.stringify({ pid, host: hostname() }));
    await writeFile(`${target}.part.json`, "{}");
  };
  const options = { signal: new AbortController().signal };
  await leave(process.pid);
  await removeDownloadLeftovers(target, options);
  expect((await readdir(folder)).length).toBe(2);
  await leave(NO_PROCESS);
  await removeDownloadLeftovers(target, options);
  expect(await readdir(folder)).toEqual([]);
});

describe("a token", () => {
  test("goes to the hub, and does not follow to another host", async () => {
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await using store = await serverOf();
    await using server = await serverOf({ redirectTo: store.endpoint });
    await download(server);
    await expectWhole();
    expect(new Set(server.seen.map(({ authorization }) => authorization))).toEqual(new Set(["Bearer hf_secret"]));
    expect(new Set(store.seen.map(({ authorization }) => authorization))).toEqual(new Set([undefined]));
  });

  test("does not come back after a detour over another host", async () => {
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await using other = await serverOf();
    await using server = await serverOf({ redirectTo: other.endpoint });
    other.manners.redirectTo = server.endpoint;
    await expect(download(server)).rejects.toMatchObject({ code: "QEDIT_E_NETWORK" });
    expect(other.seen.every(({ authorization }) => authorization === undefined)).toBe(true);
    expect(server.seen.slice(1).every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  test.each([
    ["a line break", "hf_a\nb"],
    ["a letter beyond ASCII", "hf_é"],
    ["a megabyte", "h".repeat(1e6)],
  ])("of %s is refused at once, and is not shown", async (_, token) => {
    vi.stubEnv("HF_TOKEN", token);
    await using server = await serverOf();
    const error = await download(server).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: "QEDIT_E_USAGE", message: expect.stringContaining("Cannot use HF_TOKEN") });
    expect((error as Error).message).not.toContain("hf_");
    expect(server.seen).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });

  test("does not go to a hub that is not encrypted", async () => {
    vi.stubEnv("HF_TOKEN", "hf_secret");
    vi.stubEnv("HF_ENDPOINT", "http://hub.example");
    expect((await hubRemote(FILE)).token).toBeUndefined();
    vi.stubEnv("HF_ENDPOINT", "https://hub.example");
    expect((await hubRemote(FILE)).token).toBe("hf_secret");
  });

  test("is read from the hub's own file", async () => {
    await writeFile(join(folder, "token"), "hf_stored\n");
    await using server = await serverOf();
    await download(server);
    expect(server.seen[0]!.authorization).toBe("Bearer hf_stored");
  });

  test("that is not accepted is told", async () => {
    vi.stubEnv("HF_TOKEN", "hf_old");
    await using server = await serverOf({ always: 401 });
    await expect(download(server)).rejects.toMatchObject({
      message: expect.stringContaining("the token is not accepted (401)"),
    });
  });
});

test("a proxy named by HTTP_PROXY is used, and NO_PROXY passes it by", async () => {
  await using server = await serverOf();
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  // A proxy as undici speaks to one: CONNECT, then the bytes of both sides.
  const proxy = createServer((socket) => {
    sockets.add(socket);
    socket.once("data", (head) => {
      const [, host, port] = /^CONNECT ([^:]+):(\d+)/.exec(head.toString()) ?? [];
      asked.push(`${host}:${port}`);
      const upstream = connect(Number(port), host, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        socket.pipe(upstream).pipe(socket);
      });
      for (const each of [socket, upstream]) each.on("error", () => each.destroy());
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address() as { port: number };
  vi.stubEnv("http_proxy", `http://127.0.0.1:${port}`);
  vi.stubEnv("no_proxy", "");
  vi.stubEnv("NO_PROXY", "");
  await download(server);
  await expectWhole();
  expect(asked).toContain(new URL(server.endpoint).host);

  await rm(target);
  asked.length = 0;
  vi.stubEnv("no_proxy", "127.0.0.1");
  await download(server);
  expect(asked).toEqual([]);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => proxy.close(resolve));
});

test("a proxy that is no address is refused by the name of its variable", async () => {
  await using server = await serverOf();
  vi.stubEnv("http_proxy", "not an address");
  await expect(download(server)).rejects.toMatchObject({
    code: "QEDIT_E_USAGE",
    message: expect.stringContaining("HTTP_PROXY"),
  });
});

test("the finished file has its published length", async () => {
  await using server = await serverOf();
  await download(server);
  expect((await stat(target)).size).toBe(FILE.bytes);
});
