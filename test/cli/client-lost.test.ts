// Servers that are lost: killed in the middle of an edit, of another version, or gone and only their socket left.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, qedit, spawned, workFolder } from "./qedit.js";
import { jobsOf, SMALL } from "./there.js";

const folder = workFolder();
const socket = folder.at("qedit.sock");

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.at("server"), args: ["--no-cache"] });
});
afterAll(() => server.stop("SIGKILL"));

function run(): Promise<Ended> {
  const args = ["run", CAT, "-p", "make it black and white", ...SMALL, "-v", "-f", "-o", "own.png"];
  return qedit(args, { cwd: folder.path, env: { XDG_RUNTIME_DIR: folder.path } });
}

test("a server of another version that was only found is not asked", async () => {
  // What else it says is not known.
  const body = JSON.stringify({ version: "0.0.1", phase: "ready" });
  const old = createServer((_request, response) => void response.end(body));
  await once(old.listen(socket), "listening");
  try {
    const ended = await run();
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/edited here, not by the server at unix:.*: it is qedit 0\.0\.1/);
  } finally {
    old.close();
  }
});

test("a socket that nothing answers leaves the edit to this process", async () => {
  const listening = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
  const child = spawn(process.execPath, ["-e", listening, socket]);
  await once(child, "exit");
  const ended = await run();
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stderr).toMatch(/edited here.*nothing listens there/);
});

test("a file in place of the socket is not asked", async () => {
  rmSync(socket, { force: true });
  writeFileSync(socket, "");
  const ended = await run();
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stderr).not.toContain("edited here");
});

test("a server that is killed in the middle: the error names the job, which the next start does", async () => {
  const long = ["run", CAT, "-p", "make it winter", "--model", "tiny", "--megapixels", "0.02", "--steps", "60"];
  const ended = await spawned([...long, "-o", "out.png", "--events", "stderr"], {
    cwd: folder.path,
    env: { XDG_RUNTIME_DIR: dirname(server.socket) },
    started(child) {
      child.stderr!.on("data", (part: Buffer) => {
        if (part.toString().includes('"event":"step"')) server.child.kill("SIGKILL");
      });
    },
  });
  const [, id] = /has gone while it made job ([\w-]+)/.exec(ended.stderr) ?? [];
  expect([ended.code, id], ended.stderr).toEqual([1, expect.any(String)]);
  server = await startServer({ folder: folder.at("server"), args: ["--no-cache"] });
  const job = async () => (await jobsOf(server)).find((each) => each.id === id)?.state;
  await expect.poll(job, { timeout: 60_000 }).toBe("completed");
});
