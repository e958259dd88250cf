// Edits with quantised weights: GGUF files, which are repacked once, and what `models quantize` writes.
import { readdir, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeQuantised } from "../support/gguf-quantised.js";
import { fixture } from "../support/golden.js";
import { CAT, expectRefusal, QUICK, qedit, workFolder } from "./qedit.js";
import { succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;
const TRANSFORMER = fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors");
const home = { QEDIT_HOME: join(here, "home") };
const EDIT = [
  CAT,
  "-p",
  "make it sepia",
  "--model",
  "tiny",
  "--seed",
  "3",
  "--megapixels",
  "0.1",
  "--no-cache",
  ...QUICK,
];

const edit = async (output: string, ...more: string[]) =>
  succeed(["run", ...EDIT, "-o", output, "--force", ...more], here, home);
const repackedFiles = () => readdir(join(here, "home/data/repacked"));

/** Decibels of a picture against the one of the embedded model. */
async function psnr(picture: string): Promise<number> {
  const [a, b] = await Promise.all([
    sharp(folder.at(picture)).raw().toBuffer(),
    sharp(folder.at("plain.png")).raw().toBuffer(),
  ]);
  const squares = a.reduce((sum, value, index) => sum + (value - b[index]!) ** 2, 0);
  return 10 * Math.log10((255 ** 2 * a.length) / squares);
}

beforeAll(async () => {
  const checkpoint = await readSafetensors(TRANSFORMER);
  for (const type of ["Q8_0", "Q4_0"] as const) await writeQuantised(folder.at(`${type}.gguf`), checkpoint, type);
  await edit("plain.png");
});

describe("a GGUF transformer", () => {
  test.each([
    ["Q8_0", 40],
    ["Q4_0", 25],
  ] as const)("of %s gives the picture within %i dB", async (type, wanted) => {
    const { stderr } = await edit(`${type}.png`, "--transformer", `${type}.gguf`);
    expect(stderr).toContain(`${type}.gguf is repacked once into`);
    expect(await psnr(`${type}.png`)).toBeGreaterThan(wanted);
  });

  test("is repacked once: a copy and a touched file are known again, a broken repacked file is made again", async () => {
    const repacked = async () => {
      const name = (await repackedFiles()).find((each) => each.endsWith(".safetensors"))!;
      return join(here, "home/data/repacked", name);
    };
    await qedit(["models", "repacked", "--rm", "--yes"], { cwd: here, env: home });
    expect(await repackedFiles()).toEqual([]);
    await edit("first.png", "--transformer", "Q8_0.gguf");
    const path = await repacked();
    const { mtimeMs } = await stat(path);
    await utimes(folder.at("Q8_0.gguf"), new Date(), new Date());
    expect((await edit("again.png", "--transformer", "Q8_0.gguf")).stderr).not.toContain("is repacked once");
    expect((await stat(path)).mtimeMs).toBe(mtimeMs);
    await truncate(path, 1000);
    expect((await edit("mended.png", "--transformer", "Q8_0.gguf")).stderr).toContain("is repacked once");
    expect(await psnr("mended.png")).toBe(await psnr("first.png"));
  });

  test("is planned by its header, with the bytes before and after, and nothing is written", async () => {
    const env = { QEDIT_HOME: join(here, "other-home") };
    const { stdout } = await succeed(["plan", ...EDIT, "--transformer", "Q4_0.gguf", "--json"], here, env);
    const file = JSON.parse(stdout).files.find(({ role }: { role: string }) => role === "transformer");
    expect(file).toMatchObject({ bytes: (await stat(folder.at("Q4_0.gguf"))).size, repacked: { isThere: false } });
    expect(file.repacked.bytes).toBeGreaterThan(5_000_000);
    await expect(stat(join(here, "other-home/data/repacked"))).rejects.toThrow("ENOENT");
  });

  test("is listed with what it became, and only that is removed", async () => {
    await edit("one.png", "--transformer", "Q8_0.gguf");
    await edit("two.png", "--transformer", "Q4_0.gguf");
    const list = async () => JSON.parse((await succeed(["models", "repacked", "--json"], here, home)).stdout).files;
    expect((await list()).map(({ sources }: { sources: { file: string }[] }) => sources[0]!.file).sort()).toEqual([
      expect.stringContaining("Q4_0.gguf"),
      expect.stringContaining("Q8_0.gguf"),
    ]);
    await succeed(["models", "repacked", "--rm", "--yes", "Q4_0.gguf"], here, home);
    expect(await list()).toHaveLength(1);
    const ended = await qedit(["models", "repacked", "nothing.gguf"], { cwd: here, env: home });
    expectRefusal(ended, { code: 3, message: "Cannot find repacked weights of nothing.gguf" });
  });
});

describe("models quantize", () => {
  test.each([
    ["8", "32", 45],
    ["8", "128", 45],
    ["4", "32", 25],
  ])("writes weights of %s bits in blocks of %s that give the picture within %i dB", async (bits, block, wanted) => {
    const name = `int${bits}-${block}.safetensors`;
    const { stderr } = await succeed(
      ["models", "quantize", TRANSFORMER, "--bits", bits, "--block", block, "-o", name],
      here,
      home,
    );
    expect(stderr).toMatch(/70 matrices|matrices in \d bits/);
    await edit(`${name}.png`, "--transformer", name);
    expect(await psnr(`${name}.png`)).toBeGreaterThan(wanted);
    const { stdout } = await succeed(["inspect", name], here, home);
    expect(stdout).toContain(`INT${bits}`);
  });

  test("writes a text encoder that gives the picture", async () => {
    const encoder = fixture("tiny-model/tiny_text_encoder_fp8_scaled.safetensors");
    await succeed(["models", "quantize", encoder, "-o", "encoder.safetensors"], here, home);
    await edit("encoder.png", "--text-encoder", "encoder.safetensors");
    expect(await psnr("encoder.png")).toBeGreaterThan(40);
  });

  test("refuses what it cannot quantise, and leaves nothing", async () => {
    const refused = async (file: string, text: string, ...more: string[]) => {
      const ended = await qedit(["models", "quantize", file, "-o", "no.safetensors", ...more], {
        cwd: here,
        env: home,
      });
      expect(ended.stderr).toContain(text);
      expect(ended.code).not.toBe(0);
    };
    await refused(fixture("tiny/vae.safetensors"), "Qwen-Image VAE");
    await refused("Q8_0.gguf", "it is quantised already");
    await writeFile(folder.at("there.safetensors"), "mine");
    const ended = await qedit(["models", "quantize", TRANSFORMER, "-o", "there.safetensors"], { cwd: here, env: home });
    expect(ended.stderr).toContain("is there already");
    expect((await readdir(here)).filter((name) => name === "no.safetensors" || name.startsWith(".qedit"))).toEqual([]);
  });
});
