// Who may ask, and how much: keys, Host and Origin, paths, lengths, URLs.
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isPublic } from "../../../src/server/http/openai/remote-picture.js";
import { CAT, spawned } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { formOf } from "../jobs.js";

const folder = temporaryFolder();
const KEY = "a-key-of-this-test";

let open: TestServer;
let locked: TestServer;
beforeAll(async () => {
  [open, locked] = await Promise.all([
    startServer({
      folder: folder.at("open"),
      args: ["--max-body", "200K", "--max-steps", "10", "--max-megapixels", "0.1", "--allow-urls", "localhost"],
    }),
    startServer({ folder: folder.at("locked"), env: { QEDIT_API_KEY: `${KEY}\n` }, args: ["--metrics"] }),
  ]);
});
afterAll(async () => {
  await open.stop("SIGKILL");
  await locked.stop("SIGKILL");
});

/** Status of a request with headers that fetch does not let one set. */
function statusWith(url: string, headers: Record<string, string>, method = "GET"): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = request(url, { method, headers }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    call.on("error", reject);
    call.end();
  });
}

/** First line of the answer to a request that is written as it is. */
function statusLineOf(text: string, url = open.url): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(text));
    let answer = "";
    socket.on("data", (part) => (answer += part.toString()));
    socket.on("end", () => resolve(answer.split("\r\n")[0]!));
    socket.on("error", reject);
  });
}

async function refusal(response: Response): Promise<readonly unknown[]> {
  const { error } = (await response.json()) as { error: { code: string; param: string | null } };
  return [response.status, error.code, error.param];
}

function send(fields: Record<string, string>): Promise<Response> {
  return fetch(`${open.url}/v1/jobs`, { method: "POST", body: formOf([CAT], { prompt: "x", ...fields }) });
}

describe("a key", () => {
  test("is wanted for all but the probes, and its absence said", async () => {
    for (const path of ["/v1/jobs", "/v1/models", "/metrics", "/openapi.json", "/v1/status", "/nothing"]) {
      const response = await fetch(`${locked.url}${path}`);
      expect([path, response.status, response.headers.get("www-authenticate")]).toEqual([path, 401, "Bearer"]);
    }
    for (const path of ["/health/live", "/health/ready"])
      expect((await fetch(`${locked.url}${path}`)).status).toBe(200);
  });

  test("opens with the right one only", async () => {
    const status = async (authorization: string) =>
      (await fetch(`${locked.url}/v1/jobs`, { headers: { authorization } })).status;
    expect(await status(`Bearer ${KEY}`)).toBe(200);
    for (const wrong of [`Bearer ${KEY}x`, "Bearer x", "Bearer", `Basic ${KEY}`, KEY])
      expect([wrong, await status(wrong)]).toEqual([wrong, 401]);
  });

  test("of any kind is let through where none is wanted", async () => {
    expect((await fetch(`${open.url}/v1/jobs`, { headers: { authorization: "Bearer anything" } })).status).toBe(200);
  });
});

describe("another machine", () => {
  test.each([
    ["0.0.0.0:0", /without a key/],
    ["[::]:0", /without a key/],
    ["example.com:99999", /HOST:PORT/],
  ])("is not let in at %s unless that is meant", async (address, message) => {
    const ended = await spawned(["serve", "--http", address, "--socket", "none", "--state", folder.at("none")], {
      cwd: folder.path,
    });
    expect([ended.code, ended.stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  test("cannot come by a name that points here, nor by a page of another site", async () => {
    for (const host of ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:80"])
      expect([host, await statusWith(`${open.url}/v1/jobs`, { host })]).toEqual([host, 403]);
    for (const host of ["localhost", "127.0.0.1:8000", "LOCALHOST:1", "127.0.0.2:8000", "[::1]:8000"])
      expect(await statusWith(`${open.url}/v1/jobs`, { host })).toBe(200);
    const { host } = new URL(open.url);
    for (const origin of ["https://evil.example", "null", `http://${host}.evil.example`, "http://localhost:1"])
      expect([origin, await statusWith(`${open.url}/v1/jobs`, { origin, host }, "POST")]).toEqual([origin, 403]);
    expect(await statusWith(`${open.url}/v1/jobs`, { origin: open.url, host })).toBe(200);
  });
});

describe("a request without Host", () => {
  test("is answered in HTTP/1.0, which needs none, on loopback and with a key elsewhere", async () => {
    expect(await statusLineOf("GET /health/live HTTP/1.0\r\n\r\n")).toBe("HTTP/1.1 200 OK");
    expect(await statusLineOf("GET /v1/jobs HTTP/1.0\r\n\r\n")).toBe("HTTP/1.1 200 OK");
    expect(await statusLineOf("GET /v1/jobs HTTP/1.0\r\n\r\n", locked.url)).toBe("HTTP/1.1 401 Unauthorized");
  });

  test.each([
    ["in HTTP/1.1", "GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n", 400],
    ["but an empty one", "GET /v1/jobs HTTP/1.0\r\nHost:\r\n\r\n", 403],
    ["but another machine's", "GET /v1/jobs HTTP/1.0\r\nHost: evil.example\r\n\r\n", 403],
    ["but an Origin", "GET /v1/jobs HTTP/1.0\r\nOrigin: http://localhost\r\n\r\n", 403],
    ["but an Origin of that name", "GET /v1/jobs HTTP/1.0\r\nOrigin: http://undefined\r\n\r\n", 403],
    ["but an Origin of nothing", "GET /v1/jobs HTTP/1.0\r\nOrigin: http://\r\n\r\n", 403],
  ])("%s is refused", async (_, text, status) => {
    expect(await statusLineOf(text)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });
});

describe("files of the server", () => {
  test.each([
    ["vae", "/etc/passwd"],
    ["transformer", "x.safetensors"],
    ["text_encoder", "../x.safetensors"],
    ["checkpoint", "x.safetensors"],
    ["models_dir", "/"],
    ["lora", "/etc/passwd"],
    ["lora", "..\\x.safetensors"],
    ["model", "../models"],
    ["model", "."],
  ])("are not named by a request: %s %s", async (name, value) => {
    expect(await refusal(await send({ [name]: value }))).toEqual([400, "invalid_request", name]);
  });

  test("are not found by a LoRA's name in the working folder", async () => {
    folder.write("open/here.safetensors", "x");
    expect((await refusal(await send({ lora: "here.safetensors" })))[0]).toBe(404);
  });

  test.each([
    "/v1/jobs/..%2f..%2fetc%2fpasswd",
    "/v1/jobs/%2e%2e/content",
    "/../../etc/passwd",
    "/v1/jobs/x/inputs/../../x",
  ])("are not reached by the path %s", async (path) => {
    const status = await statusLineOf(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    expect(status).toMatch(/ 404 /);
  });
});

describe("limits", () => {
  test("hold for the length of a body, told or not", async () => {
    const long = new Blob([new Uint8Array(300_000)]);
    const form = new FormData();
    form.append("image", long, "x.png");
    expect(await refusal(await fetch(`${open.url}/v1/jobs`, { method: "POST", body: form }))).toEqual([
      413,
      "payload_too_large",
      null,
    ]);
    const stream = new ReadableStream({
      start(controller) {
        for (let index = 0; index < 10; index++) controller.enqueue(new Uint8Array(50_000));
        controller.close();
      },
    });
    const options = { method: "POST", body: stream, duplex: "half", headers: { "content-type": "application/json" } };
    expect((await fetch(`${open.url}/v1/jobs`, options as RequestInit)).status).toBe(413);
  });

  test.each([
    ["steps", "11"],
    ["megapixels", "0.2"],
    ["size", "1024x1024"],
  ])("hold for %s", async (name, value) => {
    expect(await refusal(await send({ [name]: value }))).toEqual([400, "invalid_request", name]);
  });

  test.each([
    ["prompt", "a".repeat(32_001)],
    ["negative_prompt", "a".repeat(32_001)],
  ])("hold for the length of %s", async (name, value) => {
    expect(await refusal(await send({ [name]: value }))).toEqual([400, "invalid_request", name]);
  });

  test("hold for the depth of JSON", async () => {
    const data = readFileSync(CAT).toString("base64");
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    for (const [path, image] of [
      ["/v1/jobs", `{"data": "${data}"}`],
      ["/v1/images/edits", `"data:image/jpeg;base64,${data}"`],
    ] as const) {
      const body = `{"images": [${image}], "prompt": "x", "lora": ${deep}}`;
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${open.url}${path}`, { method: "POST", body, headers });
      expect(await refusal(response)).toEqual([400, "invalid_request", null]);
    }
  });

  test("hold for the time that a damaged picture takes", async () => {
    const body = JSON.stringify({ prompt: "x", images: [{ data: `${"=".repeat(190_000)}x` }] });
    const signal = AbortSignal.timeout(3_000);
    const headers = { "content-type": "application/json" };
    expect((await fetch(`${open.url}/v1/jobs`, { method: "POST", body, headers, signal })).status).toBe(400);
  });

  test("hold for compressed bodies, which are not read", async () => {
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    expect((await fetch(`${open.url}/v1/jobs`, { method: "POST", body: "{}", headers })).status).toBe(415);
  });
});

describe("pictures by URL", () => {
  const edit = (url: string) =>
    fetch(`${open.url}/v1/images/edits`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt: "x", images: [{ image_url: url }] }),
    });

  test.each([
    "http://localhost/x.png",
    "https://localhost/x.png",
    "https://169.254.169.254/latest/meta-data",
    "https://example.com/x.png",
    "https://localhost@example.com/x.png",
    "https://user:word@localhost/x.png",
    "file:///etc/passwd",
    "ftp://localhost/x",
    "https://",
  ])("%s are not fetched", async (url) => {
    expect((await edit(url)).status).toBe(400);
  });

  test("are fetched from public addresses only", () => {
    const inside = [
      "127.0.0.1",
      "10.1.2.3",
      "172.16.0.1",
      "192.168.1.1",
      "169.254.169.254",
      "100.64.0.1",
      "0.0.0.0",
      "::1",
      "::",
      "fe80::1",
      "fd00::1",
      "::ffff:127.0.0.1",
      "64:ff9b::7f00:1",
      "2002:7f00:1::",
      "224.0.0.1",
      "255.255.255.255",
    ];
    expect(inside.filter(isPublic)).toEqual([]);
    expect(["8.8.8.8", "2606:4700::1111"].filter(isPublic)).toHaveLength(2);
  });
});
