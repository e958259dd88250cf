// The same edit for every picture: which files a pattern means, where the results go, and what a second call does.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { fixture } from "../support/golden.js";
import { done, jsonLines, loads, ONCE, TINY } from "./jobs.js";
import { CAT, expectRefusal, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const EDIT = ["-p", "make it red", ...TINY];

interface Result {
  readonly input: string;
  readonly output: string;
  readonly status: string;
}

const made = (stdout: string) => stdout.trimEnd().split("\n");

// A folder of pictures, with others below it, names that look like patterns, and files that are no pictures.
function pictures(name: string): string {
  mkdirSync(folder.at(`${name}/below`), { recursive: true });
  for (const [file, source] of [
    ["a2.jpg", CAT],
    ["a10.jpg", ROCKET],
    ["b [1].jpg", CAT],
    ["below/c.jpg", ROCKET],
  ] as const)
    copyFileSync(source, folder.at(`${name}/${file}`));
  writeFileSync(folder.at(`${name}/notes.txt`), "no picture");
  return name;
}

describe("each", () => {
  beforeAll(() => void pictures("photos"));

  test("expands a quoted pattern, puts results beside the pictures, and loads each network once", async () => {
    const { stdout } = await done(["each", "photos/**/*", ...EDIT, "--events", "each.ndjson"], here);
    expect(made(stdout)).toEqual([
      "photos/a2-edit.png",
      "photos/a10-edit.png",
      "photos/b [1]-edit.png",
      "photos/below/c-edit.png",
    ]);
    expect(loads(folder.at("each.ndjson"))).toEqual(ONCE);
    await done(["run", "photos/a10.jpg", ...EDIT, "-o", "alone.png"], here);
    expect(readFileSync(folder.at("alone.png")).equals(readFileSync(folder.at("photos/a10-edit.png")))).toBe(true);
  });

  test("never edits its own results, and refuses to replace them", async () => {
    const ended = await qedit(["each", "photos/**/*", ...EDIT], here);
    expectRefusal(ended, {
      code: 2,
      message: /Cannot write photos\/a2-edit\.png: it is there already/,
      hint: /--resume.*--force/,
    });
    expect(ended.stderr).toMatch(/^4 of 8 pictures left out: they are results of earlier edits$/m);
  });

  test("goes on by --resume with what is new", async () => {
    copyFileSync(CAT, folder.at("photos/new.jpg"));
    const { stdout } = await done(["each", "photos/**/*", ...EDIT, "--resume", "--json"], here);
    expect(jsonLines<Result>(stdout).map(({ input, status }) => `${input} ${status}`)).toEqual([
      "photos/a2.jpg skipped",
      "photos/a10.jpg skipped",
      "photos/b [1].jpg skipped",
      "photos/below/c.jpg skipped",
      "photos/new.jpg done",
    ]);
  });

  test("edits a result that was named itself", async () => {
    expect(made((await done(["each", "photos/a2-edit.png", ...EDIT], here)).stdout)).toEqual([
      "photos/a2-edit-edit.png",
    ]);
  });
});

test("a folder stands for the pictures in it, results go below another one, and other pictures come with each", async () => {
  pictures("with");
  const { stdout, stderr } = await done(
    ["each", "with", ...EDIT, "--with", CAT, "-o", "results", "--format", "jpg", "--sheet", "pairs.png"],
    here,
  );
  expect(made(stdout)).toEqual(["results/a2-edit.jpg", "results/a10-edit.jpg", "results/b [1]-edit.jpg"]);
  expect(stderr).toMatch(/cat\.jpg 451x300: reference/);
  expect((await sharp(folder.at("results/a2-edit.jpg")).metadata()).format).toBe("jpeg");
  const { width, height } = await sharp(folder.at("pairs.png")).metadata();
  // Three pairs, two in a row, whose cells hold the largest pictures: 384 wide, 384 high.
  expect([width, height]).toEqual([4 * (384 + 12) + 12, 2 * (384 + 6 + 14 + 12) + 12]);
});

test("folders of a pattern are kept below the folder of the results, which is never edited itself", async () => {
  pictures("deep");
  const args = ["each", "deep/**/*.jpg", ...EDIT, "-o", "deep/out"];
  expect(made((await done(args, here)).stdout)).toEqual([
    "deep/out/a2-edit.png",
    "deep/out/a10-edit.png",
    "deep/out/b [1]-edit.png",
    "deep/out/below/c-edit.png",
  ]);
  const { stderr } = await done(["each", "deep/**/*", ...EDIT, "-o", "deep/out", "--resume"], here);
  expect(stderr).toMatch(/^4 of 8 pictures left out/m);
});

test("what a folder holds beside its pictures is counted, with the reasons, and HEIC, JPEG XL and BMP are pictures", async () => {
  mkdirSync(folder.at("mixed/below"), { recursive: true });
  for (const [name, source] of [
    ["a.heic", "sample.heic"],
    ["b.jxl", "sample.jxl"],
    ["c.bmp", "rgb24.bmp"],
  ] as const)
    copyFileSync(fixture(`images/foreign/${source}`), folder.at(`mixed/${name}`));
  copyFileSync(CAT, folder.at("mixed/.hidden.jpg"));
  copyFileSync(CAT, folder.at("mixed/IMG_0001"));
  for (const name of ["layers.psd", "d.cr2", "e.CR2", "notes.txt"])
    writeFileSync(folder.at(`mixed/${name}`), "no picture");
  const { stdout, stderr } = await done(["each", "mixed", ...EDIT, "-o", "out-mixed"], here);
  expect(made(stdout)).toEqual(["out-mixed/a-edit.png", "out-mixed/b-edit.png", "out-mixed/c-edit.png"]);
  expect(stderr).toMatch(
    /^passed over in mixed: 3 files of formats that are not read \(\.cr2, \.psd\), 1 picture whose name does not end as one, 1 hidden file, 1 folder$/m,
  );
});

test("a picture that cannot be read fails alone", async () => {
  pictures("broken");
  writeFileSync(folder.at("broken/a1.jpg"), readFileSync(CAT).subarray(0, 5000));
  const { code, stdout, stderr } = await qedit(["each", "broken/*.jpg", ...EDIT], here);
  expect(code).toBe(6);
  expect(made(stdout)).toEqual(["broken/a2-edit.png", "broken/a10-edit.png", "broken/b [1]-edit.png"]);
  expect(stderr).toMatch(/^failed: broken\/a1\.jpg: Cannot decode broken\/a1\.jpg/m);
  expect(stderr).toMatch(/error: 1 of 4 jobs failed\n {2}hint: .*--resume\n$/);
});

// Names of other systems are UTF-8 anyway.
test.runIf(process.platform === "linux")(
  "a picture whose name is not UTF-8 fails alone, with that reason",
  async () => {
    mkdirSync(folder.at("latin1"));
    copyFileSync(CAT, folder.at("latin1/a.jpg"));
    copyFileSync(CAT, Buffer.concat([Buffer.from(folder.at("latin1/caf")), Buffer.of(0xe9), Buffer.from(".jpg")]));
    const { code, stdout, stderr } = await qedit(["each", "latin1", ...EDIT], here);
    expect([code, made(stdout)]).toEqual([6, ["latin1/a-edit.png"]]);
    expect(stderr).toMatch(/^failed: .*: Cannot read latin1\/caf\uFFFD\.jpg: its name is not UTF-8$/m);
    expect((await qedit(["each", "latin1/caf\uFFFD.jpg", ...EDIT], here)).stderr).toMatch(/its name is not UTF-8/);
    expect((await qedit(["each", "latin1/\uFFFD.jpg", ...EDIT], here)).stderr).toMatch(/there is no such file/);
  },
);

describe.concurrent("refuses", () => {
  test.each([
    [["nothing/*.jpg"], /No picture matches nothing\/\*\.jpg$/],
    [["photos/*.txt"], /No picture matches photos\/\*\.txt \(1 file matches, with other endings\)/],
    [["missing.jpg"], /Cannot read missing\.jpg: there is no such file/],
    [["photos/a2.jpg", "-o", "-"], /Cannot write several pictures to stdout/],
    [["photos/a2.jpg", "-o", "photos/notes.txt"], /Cannot write into photos\/notes\.txt: it is a file/],
    [["photos/a2.jpg", "-o", "x", "--with", "missing.jpg"], /Cannot read missing\.jpg/],
  ])("%j", async (args, message) => {
    expectRefusal(await qedit(["each", ...args, ...EDIT], here), { code: 2, message });
  });

  test("a result that is another picture of the call, or one of --with", async () => {
    mkdirSync(folder.at("chain"), { recursive: true });
    for (const name of ["a.jpg", "a-edit.png"]) copyFileSync(CAT, folder.at(`chain/${name}`));
    const message = /Cannot write chain\/a-edit\.png, the result of chain\/a\.jpg: it is an input$/;
    const both = ["each", "chain/a.jpg", "chain/a-edit.png", "--force", ...EDIT];
    expectRefusal(await qedit(both, here), { code: 2, message });
    const beside = ["each", "chain/a.jpg", "--with", "./chain/a-edit.png", "--force", ...EDIT];
    expectRefusal(await qedit(beside, here), { code: 2, message });
    expect(readFileSync(folder.at("chain/a-edit.png")).equals(readFileSync(CAT))).toBe(true);
  });

  test("two pictures with one result", async () => {
    mkdirSync(folder.at("twins"), { recursive: true });
    for (const name of ["a.jpg", "a.jpeg"]) copyFileSync(CAT, folder.at(`twins/${name}`));
    expectRefusal(await qedit(["each", "twins/*", ...EDIT], here), {
      code: 2,
      message: /Cannot write twins\/a-edit\.png twice: twins\/a\.jp.*g and twins\/a\.jp.*g both make it/,
    });
  });
});
