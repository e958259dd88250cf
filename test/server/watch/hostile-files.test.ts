// What others put into a watched folder to stop it: it is refused at once, and watching goes on and ends.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EditServer } from "../../../src/server/edit-server.js";
import { writeFree } from "../../../src/server/watch/claims.js";
import { type Watching, watchFolder } from "../../../src/server/watch/watch-folder.js";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { openedServer } from "../opened-server.js";

const folder = temporaryFolder();
const inbox = folder.at("inbox");
const WITHIN = { timeout: 20_000 };

let server: EditServer;
let watching: Watching;
beforeAll(async () => {
  mkdirSync(inbox);
  server = await openedServer(folder);
  watching = await watchFolder(server, inbox, () => {});
});
afterAll(() => server.close());

test("a pipe instead of a picture fails its job at once, and watching goes on and ends", async () => {
  execFileSync("mkfifo", [join(inbox, "pipe.jpg")]);
  copyFileSync(CAT, join(inbox, "cat.jpg"));
  const job = { prompt: "make it sepia", megapixels: 0.005, steps: 1 };
  writeFileSync(join(inbox, "pipe.job.json"), JSON.stringify({ ...job, images: ["pipe.jpg"] }));
  const report = join(inbox, "failed", "pipe.job.json.error.json");
  await expect.poll(() => existsSync(report), WITHIN).toBe(true);
  expect(JSON.parse(readFileSync(report, "utf8"))).toMatchObject({
    error: { code: "QEDIT_E_IO", message: expect.stringMatching(/pipe\.jpg: it is a pipe$/) },
  });
  writeFileSync(join(inbox, "cat.job.json"), JSON.stringify({ ...job, images: ["cat.jpg"] }));
  await expect.poll(() => existsSync(join(inbox, "done", "cat.png")), WITHIN).toBe(true);
  await watching.stop(Promise.resolve());
}, 60_000);

test("a pipe under the name of a result is left alone", async () => {
  const done = folder.at("done");
  mkdirSync(done);
  execFileSync("mkfifo", [join(done, "cat.png")]);
  expect(await writeFree(done, "cat.png", Buffer.from("picture"))).toBe("cat-2.png");
});

test("a job that never ends is not waited for without limit", async () => {
  const stuck = folder.at("stuck");
  mkdirSync(stuck);
  copyFileSync(CAT, join(stuck, "cat.jpg"));
  writeFileSync(join(stuck, "cat.job.json"), JSON.stringify({ images: ["cat.jpg"], prompt: "make it sepia" }));
  const hung = Object.create(server, { submit: { value: () => new Promise(() => {}) } }) as EditServer;
  const log: string[] = [];
  const stubborn = await watchFolder(hung, stuck, (_level, text) => log.push(text));
  await expect.poll(() => existsSync(join(stuck, "processing", "cat.job.json")), WITHIN).toBe(true);
  await stubborn.stop(Promise.resolve());
  expect(log.at(-1)).toMatch(/are not written yet/);
}, 60_000);
