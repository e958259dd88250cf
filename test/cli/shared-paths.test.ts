// Paths of one call: what is written has a path of its own, with --force too, and nothing is computed otherwise.
import { copyFileSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const OPTIONS = ["-p", "make it red", ...TINY];
const RUN = ["run", "cat.jpg", ...OPTIONS];

copyFileSync(CAT, folder.at("cat.jpg"));
mkdirSync(folder.at("made"));
symlinkSync("made", folder.at("link"));
copyFileSync(CAT, folder.at("hat.png"));
writeJobs(folder.at("jobs.jsonl"), [{ images: ["cat.jpg"], prompt: "x", output: "made/job.png" }]);

describe("refuses with and without --force", () => {
  test.each([
    ["a sheet in place of the result", [...RUN, "-o", "a.png", "--sheet", "a.png"], /--sheet to a\.png: a result/],
    ["a sheet in place of the usual result", [...RUN, "--sheet", "cat-edit.png"], /cat-edit\.png: a result/],
    [
      "a sheet in place of one seed's result",
      [...RUN, "--seeds", "1,2", "-o", "s.png", "--sheet", "s-seed1.png"],
      /--sheet to s-seed1\.png: a result goes there/,
    ],
    ["a sheet in place of the input", [...RUN, "-o", "a.png", "--sheet", "./cat.jpg"], /cat\.jpg: it is an input/],
    [
      "a sheet in place of the mask",
      [...RUN, "-o", "a.png", "--paste-back", "--mask", "hat.png", "--sheet", "hat.png"],
      /--sheet to hat\.png: it is an input/,
    ],
    [
      "a preview in place of the result",
      [...RUN, "-o", "a.png", "--preview", "a.png"],
      /--preview to a\.png: a result/,
    ],
    ["a preview in place of an input", [...RUN, "-o", "a.png", "--preview", "cat.jpg"], /cat\.jpg: it is an input/],
    [
      "a preview in place of the sheet",
      [...RUN, "-o", "a.png", "--sheet", "b.png", "--preview", "b.png"],
      /--preview to b\.png: --sheet goes there too/,
    ],
    [
      "a preview in place of the result, through a link",
      [...RUN, "-o", "made/a.png", "--preview", "link/../link/a.png"],
      /--preview to link\/.*a\.png: a result goes there/,
    ],
    ["a sheet of each in place of a result", ["each", "cat.jpg", ...OPTIONS, "--sheet", "cat-edit.png"], /a result/],
    ["a sheet of each in place of a picture", ["each", "*.jpg", ...OPTIONS, "--sheet", "cat.jpg"], /it is an input/],
    [
      "a sheet of each in place of its second picture",
      ["each", "cat.jpg", ...OPTIONS, "--with", "hat.png", "--sheet", "hat.png"],
      /--sheet to hat\.png: it is an input/,
    ],
    ["a sheet of batch in place of a result", ["batch", "jobs.jsonl", ...TINY, "--sheet", "link/job.png"], /a result/],
    ["a sheet of batch in place of a picture", ["batch", "jobs.jsonl", ...TINY, "--sheet", "cat.jpg"], /an input/],
    ["events of batch in place of a result", ["batch", "jobs.jsonl", ...TINY, "--events", "made/job.png"], /a result/],
  ])("%s", async (_, args, message) => {
    for (const force of [[], ["--force"]]) {
      const ended = await qedit([...args, ...force], here);
      expectRefusal(ended, { code: 2, message, hint: /Choose another name for --/ });
      expect(ended.stderr).not.toContain("encode-image");
    }
    for (const name of ["cat.jpg", "hat.png"])
      expect(readFileSync(join(folder.path, name)).equals(readFileSync(CAT))).toBe(true);
  });
});

test("a plan and a dry run refuse it as well", async () => {
  const args = [...RUN.slice(1), "-o", "a.png", "--sheet", "a.png"];
  for (const command of [["plan"], ["run", "--dry-run"]])
    expectRefusal(await qedit([...command, ...args], here), { code: 2, message: /--sheet to a\.png: a result/ });
});

test("devices may be named twice", async () => {
  const args = [...RUN, "--format", "png", "-o", "/dev/null", "--events", "/dev/null"];
  expect((await qedit(args, here)).code).toBe(0);
});
