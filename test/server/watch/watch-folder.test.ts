// Watched folders, by real servers: job files and pictures are edited once, by one of several machines; what cannot be used is said.
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { claim } from "../../../src/server/watch/claims.js";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";

const folder = temporaryFolder();
const inbox = folder.at("inbox");
const auto = folder.at("auto");
const SMALL = { prompt: "make it black and white", megapixels: 0.02, steps: 2 };
const FLAGS = { prompt: SMALL.prompt, megapixels: "0.02", steps: "2" };

let servers: TestServer[];
beforeAll(async () => {
  for (const path of [inbox, auto]) mkdirSync(path);
  const args = ["--watch", inbox, "--watch", auto, "--no-cache"];
  servers = await Promise.all(["one", "two"].map((name) => startServer({ folder: folder.at(name), args })));
});
afterAll(() => Promise.all(servers.map((server) => server.stop("SIGKILL"))));

function put(name: string, job: unknown): void {
  writeFileSync(join(inbox, name), typeof job === "string" ? job : JSON.stringify(job));
}

const WITHIN = { timeout: 60_000 };

function appears(path: string): Promise<void> {
  return expect.poll(() => existsSync(path), WITHIN).toBe(true);
}

async function failureOf(name: string): Promise<{ code: string; message: string }> {
  const path = join(inbox, "failed", `${name}.error.json`);
  await appears(path);
  await appears(join(inbox, "failed", name));
  return (JSON.parse(readFileSync(path, "utf8")) as { error: { code: string; message: string } }).error;
}

describe("a job file", () => {
  test("is done, with the bytes of qedit run", async () => {
    copyFileSync(CAT, join(inbox, "cat.jpg"));
    put("first.job.json", { ...SMALL, images: ["cat.jpg"], seed: 3 });
    put("second.job.json", {
      prompt: SMALL.prompt,
      megapixels: 0.02,
      steps: 2,
      images: ["cat.jpg"],
      output: "named.jpg",
      "jpeg-quality": 70,
    });
    await appears(join(inbox, "done", "first.job.json"));
    await appears(join(inbox, "done", "second.job.json"));
    expect(
      readFileSync(join(inbox, "done", "first.png")).equals(await ran([CAT], { ...FLAGS, seed: "3" }, folder)),
    ).toBe(true);
    const named = await ran([CAT], { ...FLAGS, format: "jpeg", jpeg_quality: "70" }, folder);
    expect(readFileSync(join(inbox, "done", "named.jpg")).equals(named)).toBe(true);
    expect(existsSync(join(inbox, "cat.jpg"))).toBe(true);
  });

  test("waits for pictures that are still to come", async () => {
    put("early.job.json", { ...SMALL, images: ["late.jpg"] });
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(existsSync(join(inbox, "early.job.json"))).toBe(true);
    copyFileSync(CAT, join(inbox, "late.jpg"));
    await appears(join(inbox, "done", "early.png"));
  });

  test.each([
    ["unknown", { ...SMALL, images: ["cat.jpg"], stps: 3 }, "QEDIT_E_USAGE", /stps/],
    ["outside", { ...SMALL, images: ["../../etc/passwd"] }, "QEDIT_E_USAGE", /not in the watched folder|cannot read/i],
    ["absolute", { ...SMALL, images: [CAT] }, "QEDIT_E_USAGE", /not in the watched folder/],
    ["weights", { ...SMALL, images: ["cat.jpg"], vae: "/etc/passwd" }, "QEDIT_E_USAGE", /"vae"/],
    ["elsewhere", { ...SMALL, images: ["cat.jpg"], output: "../x.png" }, "QEDIT_E_USAGE", /"output"/],
    ["empty", { ...SMALL, images: [] }, "QEDIT_E_USAGE", /"images"/],
  ])(
    "that cannot be used fails by name: %s",
    async (name, job, code, message) => {
      copyFileSync(CAT, join(inbox, "cat.jpg"));
      put(`${name}.job.json`, job);
      const failure = await failureOf(`${name}.job.json`);
      expect(failure).toMatchObject({ code, message: expect.stringMatching(message) });
    },
    100_000,
  );

  test("does not follow a link out of the folder", async () => {
    symlinkSync("/etc/hostname", join(inbox, "link.jpg"));
    put("link.job.json", { ...SMALL, images: ["link.jpg"] });
    expect((await failureOf("link.job.json")).message).toMatch(/not in the watched folder/);
  });
});

test("pictures beside a prompt are edited, and lie beside their results", async () => {
  writeFileSync(join(auto, "qedit.json"), JSON.stringify({ megapixels: 0.02, steps: 2 }));
  copyFileSync(CAT, join(auto, "a.jpg"));
  writeFileSync(join(auto, "prompt.txt"), `${SMALL.prompt}\n`);
  await appears(join(auto, "done", "a.jpg"));
  copyFileSync(CAT, folder.at("a.jpg"));
  expect(readFileSync(join(auto, "done", "a-edit.png")).equals(await ran([folder.at("a.jpg")], FLAGS, folder))).toBe(
    true,
  );
});

test("nothing that was done before is replaced by files of the same names", async () => {
  const again = folder.at("again.jpg");
  copyFileSync(ROCKET, again);
  const [before, original] = [readFileSync(join(auto, "done", "a-edit.png")), readFileSync(CAT)];
  copyFileSync(again, join(auto, "a.jpg"));
  await appears(join(auto, "done", "a-2.jpg"));
  expect(readFileSync(join(auto, "done", "a-2.jpg")).equals(readFileSync(ROCKET))).toBe(true);
  expect(existsSync(join(auto, "done", "a-edit-2.png"))).toBe(true);
  expect(readFileSync(join(auto, "done", "a-edit.png")).equals(before)).toBe(true);
  expect(readFileSync(join(auto, "done", "a.jpg")).equals(original)).toBe(true);
});

test("results are not led out of the folder by a link", async () => {
  const linked = folder.at("linked");
  mkdirSync(join(linked, "elsewhere"), { recursive: true });
  symlinkSync(join(linked, "elsewhere"), join(linked, "processing"));
  await expect(claim(linked, "x.job.json")).rejects.toThrow(/it is a link/);
});

test("of many jobs each is done once, by both machines together", async () => {
  copyFileSync(CAT, join(inbox, "cat.jpg"));
  const names = Array.from({ length: 12 }, (_, index) => `many-${index}`);
  for (const [seed, name] of names.entries()) put(`${name}.job.json`, { ...SMALL, images: ["cat.jpg"], seed });
  for (const name of names) await appears(join(inbox, "done", `${name}.job.json`));
  const done = servers.map(({ log }) =>
    log.flatMap(({ msg }) => (/many-\d+\.job\.json is done/.test(msg) ? [msg] : [])),
  );
  expect(done.flat()).toHaveLength(names.length);
  expect(done.every((own) => own.length > 0)).toBe(true);
  const pictures = names.map((name) => readFileSync(join(inbox, "done", `${name}.png`)).toString("base64"));
  expect(new Set(pictures).size).toBe(names.length);
});
