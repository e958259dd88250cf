// A prompt that says nothing, as of a variable that is not set: refused by every door before anything is computed, unless it is asked for.
import { readFile, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { recipeIn } from "../../src/edit/recipe/recipe-of-file.js";
import { readImage } from "../../src/image/io/read.js";
import { encodeDecoded } from "../../src/stages/decode.js";
import { done, jsonLines, type Result, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const REFUSED = {
  code: 2,
  message: /^error: Cannot edit by an empty prompt: it says nothing$/,
  hint: /--prompt TEXT, or go on with --allow-empty-prompt/,
};

test.each([
  ["run", ["run", CAT, ...TINY]],
  ["run with several seeds", ["run", CAT, ...TINY, "--count", "2"]],
  ["run --dry-run", ["run", CAT, ...TINY, "--dry-run"]],
  ["plan", ["plan", CAT, ...TINY]],
  ["each", ["each", CAT, ...TINY]],
  ["encode-prompt", ["encode-prompt", CAT, ...models({}, ["--text-encoder"]), ...QUICK]],
])("%s refuses it", async (_, args) => {
  for (const prompt of ["", " \n\t", "\u200b\u00a0"])
    expectRefusal(await qedit([...args, "-p", prompt], here), REFUSED);
  expectRefusal(await qedit([...args, "-p", "-"], { ...here, input: Buffer.from("  \n") }), REFUSED);
});

test("a job of a batch refuses it, and the other jobs are done", async () => {
  writeJobs(folder.at("jobs.jsonl"), [
    { images: [CAT], prompt: "", output: "a.png" },
    { images: [CAT], prompt: "make it red", output: "b.png" },
    { images: [CAT], prompt: " ", output: "c.png", "allow-empty-prompt": true },
    { images: [CAT], output: "d.png" },
  ]);
  const ended = await qedit(["batch", "jobs.jsonl", ...TINY, "-p", ""], here);
  const results = jsonLines<Result>(ended.stdout).sort((a, b) => a.job - b.job);
  expect(results.map(({ status }) => status)).toEqual(["failed", "done", "done", "failed"]);
  expect(results[0]!.error?.message).toMatch(/empty prompt/);
});

test("--allow-empty-prompt goes on, and its picture can be made again", async () => {
  await done(["run", CAT, ...TINY, "-p", "", "--allow-empty-prompt", "-o", "empty.png"], here);
  await done(["rerun", "empty.png", CAT, ...models(), ...QUICK, "-o", "again.png"], here);
});

test("rerun refuses the recipe of an earlier version that has one, and goes on when it is asked to", async () => {
  await done(["run", CAT, ...TINY, "-p", " ", "--allow-empty-prompt", "-o", "now.png"], here);
  const image = await readImage(folder.at("now.png"), "now.png");
  const recipe = recipeIn(await readFile(folder.at("now.png")), "now.png");
  const { allow_empty_prompt: _, ...prompt } = recipe.settings["encode_prompt"] as Record<string, unknown>;
  const info = { ...recipe, settings: { ...recipe.settings, encode_prompt: prompt } };
  await writeFile(folder.at("old.png"), await encodeDecoded({ image, info, isDescribed: true }, { format: "png" }));
  const again = ["rerun", "old.png", CAT, ...models(), ...QUICK, "-o", "old-again.png"];
  expectRefusal(await qedit(again, here), REFUSED);
  await done([...again, "--allow-empty-prompt"], here);
});
