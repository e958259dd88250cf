// Servers that end, by SIGTERM and by SIGKILL, and start again: no accepted job is lost, and none is done twice.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer } from "../../support/server.js";
import { contentOf, endOf, formOf, jobOf, sendJob } from "../jobs.js";
import { imagesOf } from "../kserve/edits.js";
import { grpcClient, inferGrpc } from "../kserve/grpc-client.js";
import { strings } from "../kserve/http-client.js";
import { ran } from "../ran.js";

async function statusOf(url: string): Promise<object> {
  return (await (await fetch(`${url}/v1/status`)).json()) as object;
}

const folder = temporaryFolder();
const BIN = fileURLToPath(new URL("../../../bin/qedit.js", import.meta.url));
const SMALL = { prompt: "make it black and white", megapixels: "0.02", steps: "2" };
/** Seconds on any machine. */
const LONG = { prompt: "make it winter", megapixels: "0.02", steps: "60", seed: "5" };

test("ending by SIGTERM finishes what runs, keeps what waits for the next start, and exits with 0", async () => {
  const own = temporaryFolderOf("term");
  const first = await startServer({ folder: own });
  const running = await sendJob(first.url, formOf([CAT], { ...LONG, steps: "20" }));
  const waiting = await sendJob(first.url, formOf([CAT], { ...SMALL, seed: "9" }));
  await expect.poll(async () => (await jobOf(first.url, running.id)).state, { timeout: 60_000 }).toBe("running");
  expect((await first.stop()).code).toBe(0);
  const second = await startServer({ folder: own });
  expect((await jobOf(second.url, running.id)).state).toBe("completed");
  expect((await endOf(second.url, waiting.id)).state).toBe("completed");
  expect((await contentOf(second.url, waiting.id)).equals(await ran([CAT], { ...SMALL, seed: "9" }, folder))).toBe(
    true,
  );
  expect((await second.stop()).code).toBe(0);
});

test("ending by SIGTERM answers the edit that runs, and refuses those that wait", async () => {
  const first = await startServer({ folder: temporaryFolderOf("answers") });
  const post = (fields: Record<string, string>) =>
    fetch(`${first.url}/v1/images/edits`, { method: "POST", body: formOf([CAT], { ...LONG, ...fields }) });
  const running = post({ steps: "20" });
  await expect.poll(() => statusOf(first.url), { timeout: 60_000 }).toMatchObject({ running: 1 });
  const waiting = post({ seed: "6" });
  await expect.poll(() => statusOf(first.url), { timeout: 60_000 }).toMatchObject({ queued: 1 });
  const ended = first.stop();
  const refused = await waiting;
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, expect.stringMatching(/^\d+$/)]);
  const answered = await running;
  expect(answered.status).toBe(200);
  expect(((await answered.json()) as { data: readonly object[] }).data).toHaveLength(1);
  expect((await ended).code).toBe(0);
});

test("ending by SIGTERM answers the stage that runs over gRPC", async () => {
  const first = await startServer({ folder: temporaryFolderOf("grpc"), args: ["--grpc", "127.0.0.1:0"] });
  const client = grpcClient(String(first.log.find(({ grpc }) => grpc !== undefined)!["grpc"]));
  const call = {
    inputs: [...imagesOf([CAT]), strings("PROMPT", "make it winter")],
    parameters: { megapixels: 0.02, steps: 20 },
  };
  const running = inferGrpc(client, "qedit", call);
  await expect.poll(() => statusOf(first.url), { timeout: 60_000 }).toMatchObject({ running: 1 });
  const ended = first.stop();
  await expect(running).resolves.toBeDefined();
  expect((await ended).code).toBe(0);
  client.close();
});

test.each([250, 400, 1500])(
  "SIGTERM %i ms after the start ends a server that is still loading",
  async (milliseconds) => {
    const own = temporaryFolderOf("starting");
    mkdirSync(own, { recursive: true });
    const env = { PATH: process.env["PATH"] ?? "", QEDIT_HOME: own, XDG_RUNTIME_DIR: own };
    const load = Array<string>(10)
      .fill("--load")
      .flatMap((flag) => [flag, "tiny"]);
    const args = ["serve", "--http", "127.0.0.1:0", "--model", "tiny", "--device", "cpu", "--no-cache", ...load];
    const child = spawn(process.execPath, [BIN, ...args], { cwd: own, env, stdio: ["ignore", "ignore", "pipe"] });
    const log = text(child.stderr);
    await sleep(milliseconds);
    child.kill("SIGTERM");
    await once(child, "exit", { signal: AbortSignal.timeout(10_000) }).finally(() => child.kill("SIGKILL"));
    expect(child.exitCode === 0 || child.signalCode === "SIGTERM").toBe(true);
    expect(await log).not.toMatch(/"msg":"ready|"level":50/);
  },
);

test("ending by SIGTERM stops the running job after the grace, and makes it after the next start", async () => {
  const own = temporaryFolderOf("grace");
  const first = await startServer({ folder: own, args: ["--grace", "200ms"] });
  const { id } = await sendJob(first.url, formOf([CAT], LONG));
  await expect.poll(async () => (await jobOf(first.url, id)).step ?? 0, { timeout: 60_000 }).toBeGreaterThan(0);
  expect(await first.stop()).toMatchObject({ code: 0 });
  const second = await startServer({ folder: own });
  expect((await endOf(second.url, id)).state).toBe("completed");
  await second.stop();
});

test("ending by SIGKILL loses no accepted job, and does none again", async () => {
  const own = temporaryFolderOf("kill");
  const first = await startServer({ folder: own });
  const done = await sendJob(first.url, formOf([CAT], SMALL));
  const ended = await endOf(first.url, done.id);
  const open = await sendJob(first.url, formOf([CAT], { ...LONG, steps: "30", seed: "random" }));
  await expect.poll(async () => (await jobOf(first.url, open.id)).state, { timeout: 60_000 }).toBe("running");
  await first.stop("SIGKILL");
  const second = await startServer({ folder: own });
  expect(await jobOf(second.url, done.id)).toEqual(ended);
  expect((await endOf(second.url, open.id)).state).toBe("completed");
  expect(readdirSync(join(own, "home", "state", "server", "jobs")).sort()).toEqual([done.id, open.id].sort());
  await second.stop();
});

test("a server has its state folder for itself", async () => {
  const first = await startServer({ folder: folder.path });
  await expect(startServer({ folder: folder.path })).rejects.toThrow(/uses it/);
  await first.stop();
});

function temporaryFolderOf(name: string): string {
  return folder.write(`${name}/.keep`, "").replace("/.keep", "");
}

test.each([
  ["--socket", "a-file", /Cannot listen on .*a-file: something that is no socket is there/],
  ["--socket", "a".repeat(120), /Cannot listen on a+: the path of a socket has at most 10[37] bytes, this one 120/],
  ["--state", "a-file", /Cannot write .*a-file.*: a part of its path is a file/],
])("%s %s that cannot be used is refused by name, and nothing is removed", async (option, value, message) => {
  const own = temporaryFolderOf("unusable");
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "a-file"), "precious");
  await expect(startServer({ folder: own, args: [option, value] })).rejects.toThrow(message);
  expect(readFileSync(join(own, "a-file"), "utf8")).toBe("precious");
});

test("what was damaged in the state folder is told of and harms nothing else", async () => {
  const own = temporaryFolderOf("damaged");
  const state = join(own, "home", "state", "server");
  const first = await startServer({ folder: own });
  const ids: string[] = [];
  for (let seed = 0; seed < 5; seed++) {
    const { id } = await sendJob(first.url, formOf([CAT], { ...SMALL, seed: String(seed) }));
    await endOf(first.url, id);
    ids.push(id);
  }
  const kept = (await jobOf(first.url, ids[0]!)).result!;
  await first.stop();
  const [whole, picture, end, link, result] = ids.map((id) => join(state, "jobs", id)) as [string, ...string[]];
  copyFileSync(ROCKET, join(picture!, "image-1"));
  rmSync(join(picture!, "end.json"));
  writeFileSync(
    join(end!, "end.json"),
    '{"state": "failed", "ended": "2026-01-01T00:00:00.000Z", "error": {"message": 5}}',
  );
  cpSync(link!, join(own, "elsewhere"), { recursive: true });
  rmSync(link!, { recursive: true });
  symlinkSync(join(own, "elsewhere"), link!);
  const { result: written } = JSON.parse(readFileSync(join(result!, "end.json"), "utf8")) as { result: typeof kept };
  writeFileSync(join(state, "results", written.sha256), "changed");
  const second = await startServer({ folder: own });
  const warnings = second.log.filter(({ msg }) => msg.includes("is left as it is")).map(({ msg }) => msg);
  expect(warnings.sort()).toEqual([end, link].sort().map((path) => expect.stringContaining(path!)));
  expect(await endOf(second.url, ids[1]!)).toMatchObject({
    state: "failed",
    error: { message: expect.stringContaining("it is not the file that was stored") },
  });
  expect(await contentOf(second.url, ids[0]!)).toHaveLength(kept.bytes);
  await expect(contentOf(second.url, ids[4]!)).rejects.toThrow(/it is not the file that was stored/);
  expect(readdirSync(whole)).toContain("end.json");
  await second.stop();
});

test("a server that cannot be opened ends, and its engine with it", async () => {
  const own = temporaryFolderOf("unopened");
  const first = await startServer({ folder: own });
  const { id } = await sendJob(first.url, formOf([CAT], SMALL));
  const { sha256 } = (await endOf(first.url, id)).result!;
  await first.stop();
  const result = join(own, "home", "state", "server", "results", sha256);
  rmSync(result);
  mkdirSync(result);
  await expect(startServer({ folder: own, args: ["--keep-results", "1ms"] })).rejects.toThrow(/ended with 1/);
});
