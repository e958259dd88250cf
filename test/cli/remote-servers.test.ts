// Servers of stages that die, stop, want keys, or stand behind another server.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inferHttp, strings } from "../server/kserve/http-client.js";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, expectRefusal, QUICK, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const TINY = ["--model", "tiny", "--megapixels", "0.02", "--seed", "3"];
const KEY = { QEDIT_API_KEY: "a-key-of-a-test" };
/** Steps that take some seconds, to be stopped in. */
const LONG = ["run", CAT, "-p", "make it winter", ...TINY, "--steps", "25", "--force", "-f"];
const SHORT = ["run", CAT, "-p", "make it winter", ...TINY, "--steps", "2", "-f"];

const servers: TestServer[] = [];
afterAll(async () => {
  for (const server of servers) await server.stop("SIGKILL");
});

async function start(name: string, args: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
  const server = await startServer({
    folder: folder.at(name),
    args: ["--grpc", "127.0.0.1:0", "--max-steps", "10000", ...args],
    env,
  });
  servers.push(server);
  return { server, http: server.url, grpc: `grpc://${String(server.log.find((line) => "grpc" in line)!["grpc"])}` };
}

let second: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  second = await start("second");
});

test.each(["grpc", "http"] as const)(
  "over %s the next server takes over when one is killed in the middle",
  async (by) => {
    const first = await start(`first-${by}`);
    await qedit([...LONG, ...QUICK, "-o", "own.png"], { cwd: folder.path });
    const args = [
      ...LONG,
      ...QUICK,
      "--remote",
      `sample=${first[by]},${second[by]}`,
      "--events",
      "stderr",
      "-o",
      "there.png",
    ];
    const killed = { is: false };
    const ended = await spawned(args, {
      cwd: folder.path,
      started(child) {
        child.stderr!.on("data", async (part: Buffer) => {
          // Over HTTP no progress comes: it is killed a while after the stage began.
          const isIn = by === "grpc" ? /"event":"step".*"step":[5-9]/ : /"event":"start".*"stage":"sample"/;
          if (killed.is || !isIn.test(part.toString())) return;
          killed.is = true;
          if (by === "http") await new Promise((resolve) => setTimeout(resolve, 400));
          first.server.child.kill("SIGKILL");
        });
      },
    });
    expect(ended.code, ended.stderr).toBe(0);
    expect(killed.is).toBe(true);
    expect(ended.stderr).toMatch(/does not run sample: it broke off the connection; the next server is asked/);
    expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("own.png")))).toBe(true);
  },
);

test("Ctrl-C stops the stage there", async () => {
  const args = [
    ...LONG.slice(0, -4),
    "--steps",
    "10000",
    "--force",
    "-f",
    ...QUICK,
    "--remote",
    `sample=${second.grpc}`,
  ];
  const ended = await spawned([...args, "--events", "stderr", "-o", "no.png"], {
    cwd: folder.path,
    started(child) {
      child.stderr!.on("data", (part: Buffer) => {
        if (/"event":"step".*"step":[3-9]/.test(part.toString())) child.kill("SIGINT");
      });
    },
  });
  expect(ended.code).toBe(130);
  // Its turn has passed soon: the next one runs.
  const after = await qedit([...SHORT, "--remote", `qedit=${second.grpc}`, "-o", "after.png"], { cwd: folder.path });
  expect(after.code, after.stderr).toBe(0);
});

describe("a server with a key", () => {
  test("wants QEDIT_REMOTE_KEY, over both protocols", async () => {
    const { grpc, http } = await start("keyed", [], KEY);
    for (const address of [grpc, http]) {
      const args = [...SHORT, "--remote", `qedit=${address}`, "-o", "out.png"];
      const refused = await qedit(args, { cwd: folder.path });
      expectRefusal(refused, { code: 1, message: /refuses the key/, hint: /Set the server's key in QEDIT_REMOTE_KEY/ });
      const taken = await qedit(args, { cwd: folder.path, env: { QEDIT_REMOTE_KEY: KEY.QEDIT_API_KEY } });
      expect(taken.code, taken.stderr).toBe(0);
    }
  });
});

describe("a server without a GPU before one with it", () => {
  test("answers jobs and stages with the bytes of an edit made here, and opens no network of them", async () => {
    const front = await start("front", ["--remote", `encode-prompt=${second.grpc},sample=${second.grpc}`]);
    await qedit([...SHORT, ...QUICK, "-o", "own.png"], { cwd: folder.path });
    const own = readFileSync(folder.at("own.png"));
    const options = [
      ["--server", front.http],
      ["--remote", `qedit=${front.grpc}`],
      ["--remote", `encode-image=${front.http},encode-prompt=${front.http},sample=${front.grpc},decode=${front.grpc}`],
    ];
    for (const there of options) {
      const ended = await qedit([...SHORT, ...there, "-o", "there.png"], { cwd: folder.path });
      expect(ended.code, ended.stderr).toBe(0);
      expect(readFileSync(folder.at("there.png")).equals(own), there.join(" ")).toBe(true);
    }
    const status = await (await fetch(`${front.http}/v1/status`)).text();
    expect(status).not.toContain("transformer");
    expect(status).not.toContain("language-model");
  });

  test("hands LoRAs on by their names", async () => {
    const front = await start("front-lora", ["--remote", `qedit=${second.grpc}`]);
    const args = [...SHORT, "--lora", "lightning-4steps"];
    await qedit([...args, ...QUICK, "-o", "own.png"], { cwd: folder.path });
    const ended = await qedit([...args, "--server", front.http, "-o", "there.png"], { cwd: folder.path });
    expect(ended.code, ended.stderr).toBe(0);
    expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("own.png")))).toBe(true);
  });

  test("whose GPU is gone says so to its clients", async () => {
    const front = await start("front-gone", ["--remote", "sample=grpc://127.0.0.1:9"]);
    const answer = inferHttp(front.http, "encode_image", {
      inputs: [strings("IMAGE", readFileSync(CAT))],
      parameters: { megapixels: 0.02 },
    });
    await expect(answer).resolves.toBeDefined();
    const ended = await qedit([...SHORT, "--server", front.http, "-o", "no.png"], { cwd: folder.path });
    expectRefusal(ended, {
      code: 1,
      message: /Cannot reach the server at grpc:\/\/127\.0\.0\.1:9: nothing listens there/,
    });
  });
});

describe("what listens under an address", () => {
  const listening: { close: () => unknown }[] = [];
  afterAll(() => listening.forEach((each) => each.close()));

  test.each([
    ["says nothing", "grpc", () => createServer(() => {})],
    ["says nothing", "http", () => createServer(() => {})],
    ["is no gRPC", "grpc", () => createHttp((_, response) => response.end("hello"))],
    ["is a web page", "http", () => createHttp((_, response) => response.end("<html>"))],
    ["answers 404", "http", () => createHttp((_, response) => response.writeHead(404).end())],
    ["breaks off", "http", () => createServer((socket) => socket.destroy())],
    [
      "sends a body without end",
      "http",
      () =>
        createHttp((_, response) => {
          const write = (): void => {
            while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
          };
          response.on("drain", write);
          write();
        }),
    ],
  ] as const)("%s (%s): refused in one line within seconds", async (_, protocol, open) => {
    const server = open();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    listening.push(server);
    const address = `${protocol}://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const start = performance.now();
    const ended = await qedit([...SHORT, "--remote", `qedit=${address}`, "-o", "no.png"], { cwd: folder.path });
    expectRefusal(ended, { code: 1, message: new RegExp(address) });
    expect(performance.now() - start).toBeLessThan(20_000);
  });

  test("by https is trusted by the system's certificates and SSL_CERT_FILE alone", async () => {
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const files = ["-keyout", folder.at("key.pem"), "-out", folder.at("cert.pem")];
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...files, ...subject], {
      stdio: "ignore",
    });
    const proxy = createHttps(
      { key: readFileSync(folder.at("key.pem")), cert: readFileSync(folder.at("cert.pem")) },
      async (request, response) => {
        const parts: Buffer[] = [];
        for await (const part of request) parts.push(part as Buffer);
        const { host: _, connection: __, ...headers } = request.headers;
        const body = parts.length > 0 ? { body: Buffer.concat(parts) } : {};
        const answer = await fetch(`${second.http}${request.url}`, {
          method: request.method!,
          headers: headers as Record<string, string>,
          ...body,
        });
        response.writeHead(answer.status, Object.fromEntries(answer.headers));
        response.end(Buffer.from(await answer.arrayBuffer()));
      },
    );
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    listening.push(proxy);
    const args = [
      ...SHORT,
      "--remote",
      `qedit=https://localhost:${(proxy.address() as AddressInfo).port}`,
      "-o",
      "tls.png",
    ];
    expectRefusal(await qedit(args, { cwd: folder.path }), { code: 1, message: /self-signed certificate/ });
    const ended = await spawned(args, { cwd: folder.path, env: { SSL_CERT_FILE: folder.at("cert.pem") } });
    expect(ended.code, ended.stderr).toBe(0);
    writeFileSync(folder.at("bad.pem"), "no certificate");
    expect((await spawned(args, { cwd: folder.path, env: { SSL_CERT_FILE: folder.at("bad.pem") } })).code).toBe(1);
  });
});
