// qedit serve status, load, unload and stop, against real servers.
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, expectRefusal, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.at("server"), args: ["--no-cache"] });
});
afterAll(() => server.stop("SIGKILL"));

function serve(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return qedit(["serve", ...args], { cwd: folder.path, env: { XDG_RUNTIME_DIR: dirname(server.socket), ...env } });
}

function json({ stdout, stderr, code }: Ended): Record<string, unknown> {
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test("load opens a model, status shows its networks, unload closes them", async () => {
  const before = json(await serve(["status", "--json"]));
  expect(before).toMatchObject({ phase: "ready", device: "cpu", queue: { queued: 0, running: 0 }, sessions: [] });
  expect(before["models"]).toContain("tiny");
  expect(json(await serve(["load", "tiny", "--json"]))).toMatchObject({ model: "tiny", seconds: expect.any(Number) });
  const sessions = json(await serve(["status", "--json"]))["sessions"] as { name: string; bytes: number }[];
  expect(sessions.map(({ name }) => name)).toContain("the transformer");
  const shown = await serve(["status", "--server", server.url]);
  expect(shown.stdout).toMatch(
    /^http:\S+: ready, qedit \d+\.\d+\.\d+, computing on cpu\nqueue: 0 running, 0 waiting, 64 at most\n/,
  );
  expect(shown.stdout).toMatch(/^ {2}the transformer {2}[\d.]+ [kMG]B$/m);
  expect(json(await serve(["unload", "tiny", "--json"]))).toMatchObject({ closed: sessions.length, open: 0 });
  expect(json(await serve(["status", "--json"]))["sessions"]).toEqual([]);
});

test("status shows the job that runs", async () => {
  const long = ["--megapixels", "0.02", "--steps", "200", "-o", "x.png"];
  let child: ChildProcess | undefined;
  const running = spawned(["run", CAT, "-p", "make it winter", "--model", "tiny", ...long], {
    cwd: folder.path,
    env: { QEDIT_SERVER: server.url },
    started: (started) => (child = started),
  });
  const step = async () => {
    const [job] = json(await serve(["status", "--json"]))["jobs"] as { stage: string; step?: number; steps: number }[];
    return (job?.step ?? 0) > 0 ? job : undefined;
  };
  await expect.poll(step, { timeout: 60_000 }).toMatchObject({ stage: "sample", steps: 200 });
  child!.kill("SIGTERM");
  expect((await running).code).toBe(143);
});

describe("refused is", () => {
  test.each([
    ["an option of serve before the subcommand", ["--http", "80", "status"], 2, /Cannot use --http with serve status/],
    ["a model that is none", ["load", "nothing"], 2, /nothing/],
    ["a model by its path", ["load", "../tiny"], 2, /Cannot use --model here/],
    ["to unload a model that the server does not have", ["unload", "nothing"], 2, /Cannot unload nothing/],
    ["no server", ["status", "--server", "none"], 2, /--server none names none/],
    ["a server that is not there", ["stop", "--server", "unix:nowhere.sock"], 1, /there is no such socket/],
    [
      "to stop by a URL without a key",
      ["stop", "--server", "URL"],
      1,
      /stopped by its socket, or on its machine with its API key/,
    ],
  ] as const)("%s", async (_, args, code, message) => {
    expectRefusal(await serve(args.map((arg) => (arg === "URL" ? server.url : arg))), { code, message });
    expect((await fetch(`${server.url}/health/ready`)).status).toBe(200);
  });
});

test("without a server on the socket the error says how to start one", async () => {
  const ended = await qedit(["serve", "status"], { cwd: folder.path });
  expectRefusal(ended, { code: 1, message: /Cannot reach the server at unix:.*qedit\.sock/, hint: /qedit serve/ });
});

test("stop ends a server in order, by its key, and waits for it", async () => {
  const other = await startServer({ folder: folder.at("other"), env: { QEDIT_API_KEY: "a-long-secret" } });
  const stop = ["serve", "stop", "--server", other.url];
  expectRefusal(await qedit(stop, { cwd: folder.path }), {
    code: 2,
    message: /An API key is needed|key/,
    hint: /QEDIT_API_KEY/,
  });
  const ended = await qedit(stop, { cwd: folder.path, env: { QEDIT_API_KEY: "a-long-secret" } });
  expect([ended.code, ended.stdout], ended.stderr).toEqual([0, `${other.url} has stopped\n`]);
  await expect.poll(() => other.child.exitCode).toBe(0);
  expect(other.log.at(-1)!.msg).toBe("stopped");
  expect(existsSync(other.socket)).toBe(false);
});
