// What job files of a watched folder may not say: it is refused, and not left out.
import { copyFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readJobFile, readPictureFile } from "../../../src/server/watch/watched-job.js";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";

const folder = temporaryFolder();

test.each<[string, object, RegExp]>([
  ["a mask that is a number", { mask: 17 }, /Cannot use "mask": the name of one picture/],
  ["a list of masks", { mask: ["cat.jpg"] }, /Cannot use "mask": the name of one picture/],
  ["a format that the output's name is not", { output: "o.jpg", format: "png" }, /Cannot write o\.jpg as png/],
  ["both spellings of a setting", { "keep-size": true, keep_size: false }, /"keep_size": it is given twice/],
])("%s is refused", async (_, job, message) => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  const path = folder.write("one.job.json", JSON.stringify({ images: ["cat.jpg"], prompt: "x", ...job }));
  await expect(readJobFile(path, folder.path, 2 ** 20)).rejects.toMatchObject({
    code: "QEDIT_E_USAGE",
    message: expect.stringMatching(message),
  });
});

test("a format in another spelling of the output's is taken", async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  const job = { images: ["cat.jpg"], prompt: "x", output: "o.jpeg", format: "jpg" };
  const path = folder.write("two.job.json", JSON.stringify(job));
  expect((await readJobFile(path, folder.path, 2 ** 20)).request.parameters["format"]).toBe("jpeg");
});

test("texts that are no UTF-8 are refused", async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  const latin1 = (text: string) => Buffer.from(text, "latin1");
  writeFileSync(folder.at("three.job.json"), latin1('{"images": ["cat.jpg"], "prompt": "Größe"}'));
  writeFileSync(folder.at("prompt.txt"), latin1("Größe"));
  const refusal = (name: string) => ({ code: "QEDIT_E_IO", message: `Cannot read ${folder.at(name)}: it is no UTF-8` });
  await expect(readJobFile(folder.at("three.job.json"), folder.path, 2 ** 20)).rejects.toMatchObject(
    refusal("three.job.json"),
  );
  await expect(readPictureFile(folder.at("cat.jpg"), folder.path, 2 ** 20)).rejects.toMatchObject(
    refusal("prompt.txt"),
  );
});
