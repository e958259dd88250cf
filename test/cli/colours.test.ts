// Colour profiles in whole edits: said in one line, part of recipes and cache keys, and ignored where ComfyUI's numbers are wanted.
import { copyFileSync } from "node:fs";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { readPicture } from "../../src/image/io/read.js";
import { fixture } from "../support/golden.js";
import { qedit, workFolder } from "./qedit.js";
import { QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;
for (const name of ["p3", "srgb"]) copyFileSync(fixture(`images/profiles/chart-${name}.png`), folder.at(`${name}.png`));

const lines = (stderr: string) => stderr.split("\n").filter((line) => /profile|colours/.test(line));

test("a conversion is said in one line and is in the recipe, also where one picture is edited many times", async () => {
  const { stderr } = await succeed(["run", "p3.png", ...QUICK_EDIT, "-o", "p3-edit.png"], here);
  expect(lines(stderr)).toEqual(["p3.png: colours converted from Display P3 to sRGB"]);
  const { stdout } = await succeed(["inspect", "p3-edit.png", "--json"], here);
  const { settings } = (JSON.parse(stdout) as { recipe: { settings: Record<string, object> } }).recipe;
  for (const stage of ["encode_image", "encode_prompt"])
    expect(settings[stage]).toMatchObject({ profiles: { "image.1": "Display P3" } });
});

test("a picture of sRGB is not spoken of", async () => {
  const { stderr } = await succeed(["run", "srgb.png", ...QUICK_EDIT, "-o", "srgb-edit.png"], here);
  expect(lines(stderr)).toEqual([]);
});

test("--match comfyui keeps the stored numbers, and warns", async () => {
  const args = [...QUICK_EDIT, "--match", "comfyui", "--no-metadata"];
  const { stderr } = await succeed(["run", "p3.png", ...args, "-o", "p3-comfyui.png"], here);
  await succeed(["run", "srgb.png", ...args, "-o", "srgb-comfyui.png"], here);
  expect(lines(stderr)).toEqual([
    "warning: p3.png: its colour profile Display P3 is ignored, as comfyui's reader does: colours will be off",
  ]);
  const [a, b] = await Promise.all(
    ["p3-comfyui.png", "srgb-comfyui.png"].map((name) => sharp(folder.at(name)).raw().toBuffer()),
  );
  expect(a!.equals(b!)).toBe(true);
});

test("a converted picture and its stored numbers are two entries of the cache", async () => {
  const env = { XDG_CACHE_HOME: folder.at("cache") };
  const run = (...args: readonly string[]) => succeed(["run", ...args], here, env);
  await run("p3.png", ...QUICK_EDIT, "-o", "first.png");
  const again = await run("p3.png", ...QUICK_EDIT, "-o", "second.png");
  expect(again.stderr).toMatch(/encode-image: taken from the cache/);
  const other = await run("p3.png", ...QUICK_EDIT, "--match", "comfyui", "-o", "third.png");
  expect(other.stderr).not.toMatch(/encode-(image|prompt): taken from the cache/);
});

test("encode-prompt alone says it too", async () => {
  const { code, stderr } = await qedit(
    ["encode-prompt", "p3.png", ...QUICK_EDIT.slice(0, 2), ...["--text-encoder", QUICK_EDIT[5]!], "--device", "cpu"],
    { cwd: here },
  );
  expect(code, stderr).toBe(0);
  expect(lines(stderr)).toEqual(["p3.png: colours converted from Display P3 to sRGB"]);
});

describe("pasting back", () => {
  test("puts the converted colours of the original around the edit", async () => {
    const create = { width: 240, height: 160, channels: 3, background: "black" } as const;
    const white = await sharp({ create: { ...create, width: 40, height: 40, background: "white" } })
      .png()
      .toBuffer();
    await sharp({ create })
      .composite([{ input: white, left: 180, top: 100 }])
      .png()
      .toFile(folder.at("mask.png"));
    const paste = ["--keep-size", "--paste-back", "--mask", "mask.png"];
    await succeed(["run", "p3.png", ...QUICK_EDIT, ...paste, "-o", "pasted.png"], here);
    const result = (await readPicture(folder.at("pasted.png"))).image;
    const original = (await readPicture(folder.at("p3.png"))).image;
    const top = result.width * 3 * 90;
    expect(Buffer.from(result.data.subarray(0, top)).equals(Buffer.from(original.data.subarray(0, top)))).toBe(true);
  });
});
