// Pictures that job files name, in a folder with a prompt of its own: they are left to their jobs.
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EditServer } from "../../../src/server/edit-server.js";
import { watchFolder } from "../../../src/server/watch/watch-folder.js";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { openedServer } from "../opened-server.js";

const folder = temporaryFolder();
const JOB = { prompt: "make it sepia", megapixels: 0.005, steps: 1 };
const WITHIN = { timeout: 20_000 };

let server: EditServer;
beforeAll(async () => {
  server = await openedServer(folder);
});
afterAll(() => server.close());

// A folder with a prompt, a job file somewhere in it, its picture and another one.
function prepared(name: string, where: string, job: object): string {
  const inbox = folder.at(name);
  mkdirSync(join(inbox, where), { recursive: true });
  writeFileSync(join(inbox, "qedit.json"), JSON.stringify({ megapixels: 0.005, steps: 1 }));
  for (const picture of ["named.jpg", "other.jpg"]) copyFileSync(CAT, join(inbox, picture));
  writeFileSync(join(inbox, where, "one.job.json"), JSON.stringify({ ...JOB, ...job }));
  writeFileSync(join(inbox, "prompt.txt"), "make it blue");
  return inbox;
}

// Both pictures have settled when the other one is done.
async function untilOtherIsDone(inbox: string, then: () => Promise<void>): Promise<void> {
  const watching = await watchFolder(server, inbox, () => {});
  await expect.poll(() => existsSync(join(inbox, "done", "other.jpg")), WITHIN).toBe(true);
  await then();
  await watching.stop(Promise.resolve());
}

test.each(["processing", "done", "failed"])("those of a job in %s/ stay where they are", async (where) => {
  const inbox = prepared(`in-${where}`, where, { images: ["./named.jpg"] });
  await untilOtherIsDone(inbox, async () => {
    expect(existsSync(join(inbox, "named.jpg"))).toBe(true);
    expect(existsSync(join(inbox, "done", "named-edit.png"))).toBe(false);
  });
});

test("a job that a crash left behind finds its pictures", async () => {
  const inbox = prepared("crashed", "processing", { images: ["named.jpg"] });
  await untilOtherIsDone(inbox, async () => {
    // As it is put back after two minutes.
    renameSync(join(inbox, "processing", "one.job.json"), join(inbox, "one.job.json"));
    await expect.poll(() => existsSync(join(inbox, "done", "one.job.json")), WITHIN).toBe(true);
  });
  expect(existsSync(join(inbox, "named.jpg"))).toBe(true);
});

test("another picture under the name of one of an ended job is edited", async () => {
  const inbox = prepared("replaced", "done", { images: ["named.jpg"] });
  await untilOtherIsDone(inbox, async () => {
    copyFileSync(CAT, join(inbox, "named.jpg"));
    await expect.poll(() => existsSync(join(inbox, "done", "named-edit.png")), WITHIN).toBe(true);
  });
});
