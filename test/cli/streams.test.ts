// stdin and stdout as inputs and outputs: real pipes, a pseudo-terminal, and files that must not be replaced.
import { readFile, writeFile } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { CAT, expectRefusal, inTerminal, models, QUICK, qedit, shell, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const TINY = [...QUICK, "--megapixels", "0.003"];
const RUN = ["-p", "make it red", ...models(), ...TINY, "--steps", "1", "--cfg", "1"];
const words = (args: readonly string[]) => args.map((arg) => `'${arg}'`).join(" ");

let fromFiles: Buffer;
beforeAll(async () => {
  const ended = await qedit(["run", CAT, ...RUN, "-o", "files.png"], here);
  expect(ended.code, ended.stderr).toBe(0);
  fromFiles = await sharp(await readFile(folder.at("files.png")))
    .raw()
    .toBuffer();
});

const pixels = (bytes: Uint8Array) => sharp(bytes).raw().toBuffer();

describe("- as a picture", () => {
  test("reads stdin and writes stdout: the same pixels, and nothing else there", async () => {
    const { code, bytes, stderr } = await qedit(["run", "-", ...RUN, "-q", "-o", "-"], {
      ...here,
      input: await readFile(CAT),
    });
    expect([code, stderr]).toEqual([0, ""]);
    expect((await pixels(bytes)).equals(fromFiles)).toBe(true);
  });

  test("--format says what stdout gets", async () => {
    const { bytes } = await qedit(["run", CAT, ...RUN, "-o", "-", "--format", "webp"], here);
    expect((await sharp(bytes).metadata()).format).toBe("webp");
  });

  test("two edits in one pipeline", async () => {
    const { code, bytes, stderr } = await shell(
      `cat '${CAT}' | qedit run - ${words(RUN)} -o - | qedit run - ${words(RUN)} -o -`,
      folder.path,
    );
    expect(code, stderr).toBe(0);
    expect((await sharp(bytes).metadata()).format).toBe("png");
  });

  test("from stdin without -o has a name of its own", async () => {
    const { stdout } = await qedit(["run", "-", ...RUN], { ...here, input: await readFile(CAT) });
    expect(stdout).toBe("stdin-edit.png\n");
  });
});

describe("stages in pipes", () => {
  test("encode-image | sample | decode gives the same picture as run", async () => {
    const [vae, textEncoder, transformer] = (["--vae", "--text-encoder", "--transformer"] as const).map((role) =>
      words(models({}, [role])),
    );
    const common = words(QUICK);
    await qedit(
      [
        "encode-prompt",
        CAT,
        "-p",
        "make it red",
        ...models({}, ["--text-encoder"]),
        ...QUICK,
        "-o",
        "cond.safetensors",
      ],
      here,
    );
    const line = [
      `qedit encode-image '${CAT}' ${vae} ${words(TINY)} -o -`,
      `qedit sample --latents - --cond cond.safetensors ${transformer} ${common} --steps 1 --cfg 1 -o -`,
      `qedit decode - ${vae} ${common} -o piped.png`,
    ].join(" | ");
    const ended = await shell(line, folder.path);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stdout).toBe("piped.png\n");
    expect((await pixels(await readFile(folder.at("piped.png")))).equals(fromFiles)).toBe(true);
    expect(textEncoder).not.toBe("");
  });

  test("the prompt may come from stdin", async () => {
    const { code, stderr } = await qedit(
      ["encode-prompt", "-p", "-", ...models({}, ["--text-encoder"]), ...QUICK, "-o", "typed.safetensors"],
      { ...here, input: Buffer.from("make it red\n") },
    );
    expect(code, stderr).toBe(0);
    expect(JSON.parse(await readFile(folder.at("typed.json"), "utf8"))).toMatchObject({
      settings: { encode_prompt: { prompt: "make it red" } },
    });
  });
});

test("every stage takes the options of the cache, also decode, of which nothing is cached", async () => {
  for (const options of [["--no-cache"], ["--cache-limit", "1M"]])
    for (const command of ["encode-image", "encode-prompt", "sample", "decode"]) {
      const { stderr } = await qedit([command, "nowhere", ...options], here);
      expect(stderr).not.toMatch(/[Uu]nknown option/);
    }
});

describe("refuses", () => {
  test("stdin for two inputs", async () => {
    expectRefusal(await qedit(["run", "-", "-", ...RUN], here), {
      code: 2,
      message: /Cannot read 2 inputs from stdin/,
    });
  });

  test.each([
    ["a picture and a mask", ["-", ...RUN, "--paste-back", "--mask", "-"]],
    ["a prompt and a mask", [CAT, ...RUN, "-p", "-", "--paste-back", "--mask", "-"]],
  ])("stdin for %s", async (_, args) => {
    for (const command of [["run"], ["run", "--dry-run"], ["plan"]])
      expectRefusal(await qedit([...command, ...args], { ...here, input: await readFile(CAT) }), {
        code: 2,
        message: /Cannot read 2 inputs from stdin/,
      });
  });

  test.each([
    ["a picture", ["-"]],
    ["picture 2", [CAT, "--with", "-"]],
    ["a mask", [CAT, "--paste-back", "--mask", "-"]],
  ])("stdin for %s of each, which reads it for a prompt alone", async (_, args) => {
    const ended = await qedit(["each", ...args, ...RUN, "-o", "many/"], { ...here, input: await readFile(CAT) });
    expectRefusal(ended, { code: 2, message: /Cannot read pictures of several edits from stdin/, hint: /Name a file/ });
    expect(ended.stderr).not.toMatch(/computing on|failed/);
  });

  test("stdin for pictures and masks of a batch's jobs", async () => {
    const jobs = [{ images: ["-"] }, { images: [CAT], paste_back: true, mask: "-" }];
    const lines = jobs.map((job, index) => JSON.stringify({ ...job, prompt: "warm", output: `job-${index}.png` }));
    const ended = await qedit(["batch", "-", "--model", "tiny"], { ...here, input: Buffer.from(lines.join("\n")) });
    expect(ended.code).toBe(6);
    expect(ended.stdout.match(/A job can neither read stdin nor write to stdout/g)).toHaveLength(2);
  });

  test("an empty stdin", async () => {
    expectRefusal(await qedit(["run", "-", ...RUN, "-o", "empty.png"], { ...here, input: new Uint8Array(0) }), {
      code: 2,
      message: /Cannot read stdin: nothing came/,
    });
  });

  test("JSON and bytes on one stdout", async () => {
    expectRefusal(await qedit(["run", CAT, ...RUN, "-o", "-", "--json"], here), {
      code: 2,
      message: /JSON and the result on stdout at once/,
      hint: /-o FILE/,
    });
  });

  test.each([
    ["bytes on a terminal", ["run", CAT, ...RUN, "-o", "-"], "Cannot write bytes to a terminal"],
    ["to wait for a terminal's keys", ["run", "-", ...RUN], "Cannot read stdin: it is a terminal"],
    [
      "to wait for a terminal's mask",
      ["run", CAT, ...RUN, "--paste-back", "--mask", "-"],
      "Cannot read stdin: it is a terminal",
    ],
  ])("%s", async (_, args, message) => {
    const terminal = inTerminal(args, here);
    expect(await terminal.ended).toBe(2);
    expect(terminal.shown()).toContain(message);
  });

  test("to replace a picture, before anything is computed, unless --force is given", async () => {
    await writeFile(folder.at("taken.png"), "mine");
    const ended = await qedit(["run", CAT, ...RUN, "-o", "taken.png"], here);
    expectRefusal(ended, { code: 2, message: "error: Cannot write taken.png: it is there already", hint: /--force/ });
    expect(await readFile(folder.at("taken.png"), "utf8")).toBe("mine");
    expect((await qedit(["run", CAT, ...RUN, "-o", "taken.png", "--force"], here)).code).toBe(0);
    expect((await sharp(folder.at("taken.png")).metadata()).format).toBe("png");
  });

  test("to replace the record beside an artifact", async () => {
    await writeFile(folder.at("kept.json"), "mine");
    const ended = await qedit(["encode-image", CAT, ...models({}, ["--vae"]), ...TINY, "-o", "kept.safetensors"], here);
    expectRefusal(ended, { code: 2, message: "error: Cannot write kept.json: it is there already" });
    expect(folder.names()).not.toContain("kept.safetensors");
  });
});

describe("a destination that fails", () => {
  test("a full disk is one clear line", async () => {
    expectRefusal(await qedit(["run", CAT, ...RUN, "-o", "/dev/full", "--format", "png"], here), {
      code: 1,
      message: /Cannot write \/dev\/full: no space is left on the disk/,
    });
  });

  test("a full stdout is one clear line", async () => {
    const { code, stderr } = await shell(`qedit run '${CAT}' ${words(RUN)} -q -o - > /dev/full`, folder.path);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Cannot write stdout: no space is left on the disk\n/),
    ]);
  });

  test.each(["--version", "run --help", "models list", "explain QEDIT_E_IO"])(
    "a full stdout fails %s too",
    async (args) => {
      const { code, stderr } = await shell(`qedit ${args} > /dev/full`, folder.path);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/^error: Cannot write stdout: no space is left/)]);
    },
  );

  test("a stderr whose reader is gone loses messages only", async () => {
    const { code } = await shell(
      `(qedit run '${CAT}' ${words(RUN)} -v -o heard.png; echo $? > status) 2>&1 >/dev/null | true; exit $(cat status)`,
      folder.path,
    );
    expect(code).toBe(0);
    expect((await sharp(folder.at("heard.png")).metadata()).format).toBe("png");
  });

  test("a reader that is gone is one clear line", async () => {
    const { stderr } = await shell(`qedit run '${CAT}' ${words(RUN)} -q -o - | true`, folder.path);
    expect(stderr).toMatch(/^(error: Cannot write stdout: no process reads it any more\n {2}hint: .*\n)?$/);
  });

  test("a file that may not grow leaves nothing behind", async () => {
    // 1 block of 512 bytes: the system refuses the rest of the picture.
    const { code, stderr } = await shell(
      `trap '' XFSZ; ulimit -f 1; qedit run '${CAT}' ${words(RUN)} -q -o big.png`,
      folder.path,
    );
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Cannot write big\.png: the file is larger than the system allows\n/m),
    ]);
    expect(folder.names().filter((name) => name.includes("big"))).toEqual([]);
  });
});

test("a name with a slash at its end is a folder for a name of the result's own", async () => {
  const edited = await qedit(["run", CAT, ...RUN, "-o", "results/"], here);
  expect(edited.stdout).toBe("results/cat-edit.png\n");
  const encoded = await qedit(["encode-image", CAT, ...models({}, ["--vae"]), ...TINY, "-o", "results/"], here);
  expect(encoded.stdout).toBe("results/latents.safetensors\n");
  expect(folder.names()).toEqual(expect.arrayContaining(["results/cat-edit.png", "results/latents.safetensors"]));
});

test("folders with spaces and letters of other scripts work", async () => {
  const place = "mes images été 写真";
  const { code, stdout, stderr } = await qedit(["run", CAT, ...RUN, "-o", `${place}/el gato ñ.png`], here);
  expect(code, stderr).toBe(0);
  expect(stdout).toBe(`${place}/el gato ñ.png\n`);
  expect(folder.names().some((name) => name.endsWith("el gato ñ.png"))).toBe(true);
});
