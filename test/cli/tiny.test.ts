// The model inside the package: found without a flag for its files, its numbers used, and pictures that are really edited.
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { fixture } from "../support/golden.js";
import { QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const ASTRONAUT = fixture("images/astronaut.jpg");
const TINY = ["--model", "tiny", ...QUICK];
const SMALL = ["--megapixels", "0.06"];

/** Nearer than this to the exact edit, and further than the exact edit of the others: decibels. */
const NEAR = 22;

type Pixels = readonly number[];

interface Size {
  readonly width: number;
  readonly height: number;
}

const ASTRONAUT_UPSIDE_DOWN = folder.at("upside-down.png");

beforeAll(async () => {
  await sharp(ASTRONAUT).flip().toFile(ASTRONAUT_UPSIDE_DOWN);
});

async function pixels(path: string, size: { width: number; height: number }): Promise<Pixels> {
  return [...(await sharp(path).resize(size.width, size.height, { fit: "cover" }).removeAlpha().raw().toBuffer())];
}

function psnr(a: Pixels, b: Pixels): number {
  return -10 * Math.log10(a.reduce((sum, value, index) => sum + ((value - b[index]!) / 255) ** 2, 0) / a.length);
}

// ITU-R BT.601, as of Pillow's and most tools' grey.
function grey(picture: Pixels): Pixels {
  return picture.map((_, index) => {
    const at = index - (index % 3);
    return 0.299 * picture[at]! + 0.587 * picture[at + 1]! + 0.114 * picture[at + 2]!;
  });
}

describe.each([
  ["astronaut", ASTRONAUT],
  ["rocket", ROCKET],
])("%s", (name, photo) => {
  const made = new Map<string, Pixels>();
  let original: Pixels;
  beforeAll(async () => {
    for (const prompt of ["make it black and white", "invert the colors", "keep it as it is"]) {
      const output = `${name}-${prompt.slice(0, 4)}.png`;
      const { code, stderr } = await qedit(["run", photo, "-p", prompt, ...TINY, ...SMALL, "-q", "-o", output], here);
      expect(code, stderr).toBe(0);
      const { width, height } = await sharp(folder.at(output)).metadata();
      made.set(prompt, await pixels(folder.at(output), { width, height }));
      original ??= await pixels(photo, { width, height });
    }
  });

  test.each([
    ["make it black and white", grey],
    ["invert the colors", (picture: Pixels) => picture.map((value) => 255 - value)],
    ["keep it as it is", (picture: Pixels) => picture],
  ])("%s gives that picture", (prompt, exact) => {
    const result = made.get(prompt)!;
    const near = psnr(result, exact(original));
    expect(near).toBeGreaterThan(NEAR);
    for (const other of made.keys())
      if (other !== prompt) expect(psnr(made.get(other)!, exact(original))).toBeLessThan(near);
  });
});

/** Of edits that move pixels; the nearest wrong one is at 12 dB or less here. */
const MOVED = 20;

test.each([
  ["mirror it", (x: number, y: number, { width }: Size) => [width - 1 - x, y]],
  ["turn it upside down", (x: number, y: number, { height }: Size) => [x, height - 1 - y]],
] as const)("%s moves every pixel, at an odd number of tokens too", async (prompt, from) => {
  const output = `${prompt.slice(0, 4)}-moved.png`;
  const { code, stderr } = await qedit(["run", ROCKET, "-p", prompt, ...TINY, ...SMALL, "-q", "-o", output], here);
  expect(code, stderr).toBe(0);
  const size = (await sharp(folder.at(output)).metadata()) as Size;
  const [result, original] = await Promise.all([pixels(folder.at(output), size), pixels(ROCKET, size)]);
  expect(
    psnr(
      result,
      placed(size, (x, y) => ({ of: original, at: from(x, y, size) })),
    ),
  ).toBeGreaterThan(MOVED);
});

test("picture 2 stands in the right half where it is asked for", async () => {
  const { code, stderr } = await qedit(
    [
      "run",
      ASTRONAUT,
      ASTRONAUT_UPSIDE_DOWN,
      "-p",
      "put picture 2 on the right half",
      ...TINY,
      ...SMALL,
      "-q",
      "-o",
      "halves.png",
    ],
    here,
  );
  expect(code, stderr).toBe(0);
  const size = (await sharp(folder.at("halves.png")).metadata()) as Size;
  const [result, left, right] = await Promise.all([
    pixels(folder.at("halves.png"), size),
    pixels(ASTRONAUT, size),
    pixels(ASTRONAUT_UPSIDE_DOWN, size),
  ]);
  expect(
    psnr(
      result,
      placed(size, (x, y) => ({ of: x < size.width / 2 ? left : right, at: [x, y] })),
    ),
  ).toBeGreaterThan(MOVED);
});

// The picture whose pixel (x, y) is another's at another place.
function placed(
  { width, height }: Size,
  source: (x: number, y: number) => { of: Pixels; at: readonly number[] },
): Pixels {
  return Array.from({ length: width * height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    const { of, at } = source(pixel % width, Math.floor(pixel / width));
    return of[(at[1]! * width + at[0]!) * 3 + (i % 3)]!;
  });
}

test("the four stages give the same pixels as run, each with the model's own numbers", async () => {
  const step = async (args: readonly string[]) => {
    const { code, stderr } = await qedit(
      [...args, ...TINY, "-q", "--no-cache"].filter((arg) => args[0] !== "decode" || arg !== "--no-cache"),
      here,
    );
    expect(code, stderr).toBe(0);
  };
  await step(["run", ROCKET, "-p", "make it sepia", "-o", "whole.png"]);
  await step(["encode-image", ROCKET, "-o", "latents.safetensors"]);
  await step(["encode-prompt", ROCKET, "-p", "make it sepia", "-o", "cond.safetensors"]);
  await step(["sample", "--latents", "latents.safetensors", "--cond", "cond.safetensors", "-o", "samples.safetensors"]);
  await step(["decode", "samples.safetensors", "-o", "staged.png"]);
  const [whole, staged] = await Promise.all(
    ["whole.png", "staged.png"].map((name) => sharp(folder.at(name)).raw().toBuffer({ resolveWithObject: true })),
  );
  expect(whole!.data.equals(staged!.data)).toBe(true);
  expect(whole!.info.width * whole!.info.height).toBeGreaterThan(0.2 * 1024 ** 2);
});
