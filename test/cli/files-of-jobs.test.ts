// Jobs of a batch that would read or write each other's files: the later one is refused, whatever the order in which they are made.
import { copyFileSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { done, jsonLines, type Result, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path, env: { XDG_STATE_HOME: folder.at("state") } };
const job = (images: string, output: string, more = {}) => ({
  images: [images],
  prompt: "make it red",
  output,
  ...more,
});

/** The code of the call, and each job's failure or that it was done, in order. */
async function ends(
  jobs: readonly object[],
  args: readonly string[] = [],
): Promise<readonly (string | number | null)[]> {
  writeJobs(folder.at("jobs.jsonl"), jobs);
  const { code, stdout } = await qedit(["batch", "jobs.jsonl", ...TINY, "--force", ...args], here);
  const lines = jsonLines<Result>(stdout).sort((a, b) => a.line - b.line);
  return [code, ...lines.map(({ status, error }) => error?.message ?? status)];
}

test.each([[[]], [["--memory", "1M"]]])("a picture that an earlier job makes is not read (%j)", async (args) => {
  copyFileSync(ROCKET, folder.at("mid.png"));
  const jobs = [job(CAT, "mid.png"), job("mid.png", "end.png"), job(CAT, "masked.png", { mask: "./mid.png" })];
  expect(await ends(jobs, args)).toEqual([
    6,
    "done",
    expect.stringMatching(/^Cannot read \S*mid\.png: line 1 makes it$/),
    expect.stringMatching(/^Cannot read \S*mid\.png: line 1 makes it$/),
  ]);
});

test("a picture that an earlier job reads is not replaced", async () => {
  copyFileSync(ROCKET, folder.at("read.png"));
  expect(await ends([job("read.png", "of-read.png"), job(CAT, "read.png")])).toEqual([
    6,
    "done",
    expect.stringMatching(/^Cannot write \S*read\.png: line 1 reads it$/),
  ]);
  expect(readFileSync(folder.at("read.png")).equals(readFileSync(ROCKET))).toBe(true);
});

test.runIf(process.platform !== "win32")("two names of one file, by a link, are one", async () => {
  mkdirSync(folder.at("real"));
  symlinkSync("real", folder.at("linked"));
  expect(await ends([job(CAT, "real/a.png"), job(CAT, "linked/a.png", { seed: 1 })])).toEqual([
    6,
    "done",
    expect.stringMatching(/^Cannot write \S*linked\/a\.png twice: line 1 and line 2 both make it$/),
  ]);
});

test("a job may replace what it reads itself, and many may read one picture", async () => {
  copyFileSync(ROCKET, folder.at("own.png"));
  writeJobs(folder.at("jobs.jsonl"), [job("own.png", "own.png"), job(CAT, "b.png"), job(CAT, "c.png", { seed: 3 })]);
  await done(["batch", "jobs.jsonl", ...TINY, "--force"], here);
  expect(readFileSync(folder.at("own.png")).equals(readFileSync(ROCKET))).toBe(false);
});

test("submit refuses such jobs before it sends any", async () => {
  copyFileSync(ROCKET, folder.at("mid.png"));
  writeJobs(folder.at("sent.jsonl"), [job(CAT, "mid.png"), job("mid.png", "end.png")]);
  const broker = ["--kafka", "localhost:1", "--store", folder.at("store")];
  expectRefusal(await qedit(["submit", "sent.jsonl", ...broker], here), {
    code: 2,
    message: /^error: Cannot read \S*mid\.png: line 1 makes it$/,
    hint: /another list/,
  });
});
