// --keep: tensor files take the place of nothing that is there, and every edit of a call has its own.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { done, jsonLines, type Result, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", CAT, "-p", "make it red", ...TINY];
const bytes = (name: string) => readFileSync(folder.at(name));

function taken(name: string): void {
  mkdirSync(folder.at(name), { recursive: true });
  writeFileSync(folder.at(`${name}/samples.json`), "mine");
}

test("run refuses to replace kept files before anything is computed, unless --force is given", async () => {
  await done([...RUN, "--seed", "1", "--keep", "again", "-o", "one.png"], here);
  const before = bytes("again/samples.safetensors");
  const again = [...RUN, "--seed", "5", "--keep", "again", "-o", "five.png"];
  const ended = await qedit(again, here);
  expectRefusal(ended, {
    code: 2,
    message: /Cannot write again\/latents\.safetensors: it is there already/,
    hint: /--force/,
  });
  expect(ended.stderr).not.toContain("encode-image");
  expect(bytes("again/samples.safetensors").equals(before)).toBe(true);
  await done([...again, "--force"], here);
  expect(bytes("again/samples.safetensors").equals(before)).toBe(false);
});

test("run refuses to replace a file of somebody else under the name of a record", async () => {
  taken("theirs");
  expectRefusal(await qedit([...RUN, "--keep", "theirs", "-o", "theirs.png"], here), {
    code: 2,
    message: /Cannot write theirs\/samples\.json: it is there already/,
  });
  taken("many/seed2");
  expectRefusal(await qedit([...RUN, "--seeds", "1..2", "--keep", "many", "-o", "theirs.png"], here), {
    code: 2,
    message: /Cannot write many\/seed2\/samples\.json: it is there already/,
  });
  expect([bytes("theirs/samples.json").toString(), bytes("many/seed2/samples.json").toString()]).toEqual([
    "mine",
    "mine",
  ]);
  expect(existsSync(folder.at("theirs/latents.safetensors"))).toBe(false);
});

test.each([
  ["a file", "file"],
  ["a folder below a file", "file/below"],
])("run refuses to keep in %s, before anything is computed", async (_, keep) => {
  writeFileSync(folder.at("file"), "mine");
  const ended = await qedit([...RUN, "--keep", keep, "-o", "kept.png", "--force"], here);
  expectRefusal(ended, { code: 1, message: /Cannot write file\/.*latents\.safetensors: a part of its path is a file/ });
  expect(existsSync(folder.at("kept.png"))).toBe(false);
  for (const command of [["plan"], ["run", "--dry-run"]]) {
    const { code, stderr } = await qedit([...command, ...RUN.slice(1), "--keep", keep, "-o", "kept.png"], here);
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^warning: `run` will refuse this: Cannot write file\//m),
    ]);
  }
});

describe("each", () => {
  const EACH = ["-p", "make it red", ...TINY, "--keep", "each-kept"];

  test("refuses to replace kept files, and with --resume makes those that are equal again", async () => {
    await done(["each", CAT, ...EACH, "-o", "each/"], here);
    const name = `each-kept/${basename(CAT, ".jpg")}-edit`;
    expect(existsSync(folder.at(`${name}/cond.json`))).toBe(true);
    expectRefusal(await qedit(["each", CAT, ...EACH, "-o", "each-2/"], here), {
      code: 2,
      message: new RegExp(`Cannot write ${name}/latents.safetensors: it is there already`),
      hint: /--force/,
    });
    await done(["each", CAT, ...EACH, "-o", "each-2/", "--resume"], here);
    writeFileSync(folder.at(`${name}/cond.json`), "mine");
    expect((await qedit(["each", CAT, ...EACH, "-o", "each-3/", "--resume"], here)).stderr).toMatch(
      /Cannot write .*cond\.json: it is there already/,
    );
    expect(bytes(`${name}/cond.json`).toString()).toBe("mine");
  });

  test("keeps the files of pictures of one name in several folders apart, or refuses", async () => {
    for (const [at, from] of [
      ["a", CAT],
      ["b", ROCKET],
    ] as const) {
      mkdirSync(folder.at(`photos/${at}`), { recursive: true });
      writeFileSync(folder.at(`photos/${at}/x.jpg`), readFileSync(from));
    }
    const args = ["-p", "make it red", ...TINY, "--keep", "apart"];
    await done(["each", "photos/**/*.jpg", ...args], here);
    for (const at of ["a", "b"]) expect(existsSync(folder.at(`apart/${at}/x-edit/samples.json`))).toBe(true);
    expectRefusal(await qedit(["each", "photos/a/x.jpg", "photos/b/x.jpg", ...args, "--force"], here), {
      code: 2,
      message: /Cannot write apart\/x-edit twice/,
      hint: /--keep/,
    });
  });
});

describe("batch", () => {
  const job = (output: string, more = {}) => ({ images: [CAT], prompt: "make it red", output, ...more });

  test("keeps the files of every job in a folder of its own, and refuses to replace them", async () => {
    writeJobs(folder.at("jobs.jsonl"), [job("j1.png"), job("j2.png", { seed: 3 })]);
    const args = ["batch", "jobs.jsonl", ...TINY, "--keep", "batch-kept"];
    await done(args, here);
    expect(bytes("batch-kept/j1/samples.safetensors").equals(bytes("batch-kept/j2/samples.safetensors"))).toBe(false);
    writeJobs(folder.at("jobs.jsonl"), [job("k/j1.png", { seed: 7 })]);
    const before = bytes("batch-kept/j1/samples.safetensors");
    const { code, stdout } = await qedit(args, here);
    expect([code, jsonLines<Result>(stdout)[0]]).toEqual([
      6,
      expect.objectContaining({ status: "failed", error: expect.objectContaining({ code: "QEDIT_E_EXISTS" }) }),
    ]);
    expect(bytes("batch-kept/j1/samples.safetensors").equals(before)).toBe(true);
  });

  test("refuses a job that would keep where an earlier one does", async () => {
    writeJobs(folder.at("same.jsonl"), [job("s1.png", { keep: "same" }), job("s2.png", { keep: "./same", seed: 3 })]);
    const { code, stdout } = await qedit(["batch", "same.jsonl", ...TINY], here);
    const [failed, first] = jsonLines<Result>(stdout);
    expect([code, first!.status, failed!.error?.message]).toEqual([
      6,
      "done",
      "Cannot write same twice: line 1 and line 2 both make it",
    ]);
  });

  test("--resume goes on with a job that was stopped after it had kept files, and replaces those of a changed one", async () => {
    writeJobs(folder.at("stopped.jsonl"), [job("stop.png", { keep: "stopped" })]);
    await done([...RUN, "-o", "other.png", "--keep", "stopped"], here);
    const resume = () =>
      done(["batch", "stopped.jsonl", ...TINY, "--resume"], { ...here, env: { XDG_STATE_HOME: folder.at("state") } });
    await resume();
    writeJobs(folder.at("stopped.jsonl"), [job("stop.png", { keep: "stopped", seed: 9 })]);
    const before = bytes("stopped/samples.safetensors");
    await resume();
    expect(bytes("stopped/samples.safetensors").equals(before)).toBe(false);
  });
});
