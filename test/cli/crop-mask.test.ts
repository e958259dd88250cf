// --crop-mask: only the region around the mask is edited, at full resolution, and everything outside the mask stays the original's.
import { copyFileSync } from "node:fs";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { fixture } from "../support/golden.js";
import { expectRefusal, QUICK, qedit, workFolder } from "./qedit.js";
import { QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;
const SIZE = { width: 900, height: 700 };
const WHITE = { left: 500, top: 300, width: 90, height: 60 };

beforeAll(async () => {
  await sharp(fixture("images/astronaut.jpg"))
    .resize(SIZE.width, SIZE.height, { fit: "fill" })
    .toFile(folder.at("photo.png"));
  const white = await sharp({ create: { width: WHITE.width, height: WHITE.height, channels: 3, background: "white" } })
    .png()
    .toBuffer();
  await sharp({ create: { ...SIZE, channels: 3, background: "black" } })
    .composite([{ input: white, left: WHITE.left, top: WHITE.top }])
    .toFile(folder.at("mask.png"));
  copyFileSync(fixture("images/cat.jpg"), folder.at("cat.jpg"));
});

const pixels = (name: string) => sharp(folder.at(name)).removeAlpha().raw().toBuffer();

function differing(a: Buffer, b: Buffer): { inside: number; outside: number } {
  const found = { inside: 0, outside: 0 };
  for (let i = 0; i < SIZE.width * SIZE.height; i++) {
    if (a.subarray(i * 3, i * 3 + 3).equals(b.subarray(i * 3, i * 3 + 3))) continue;
    const [x, y] = [i % SIZE.width, Math.floor(i / SIZE.width)];
    const isInside = x >= WHITE.left && x < WHITE.left + WHITE.width && y >= WHITE.top && y < WHITE.top + WHITE.height;
    found[isInside ? "inside" : "outside"] += 1;
  }
  return found;
}

const EDIT = ["--mask", "mask.png", "--crop-mask", "--feather", "4"];

test("the result has picture 1's size, and its pixels outside the mask to the bit", async () => {
  const { stderr } = await succeed(["run", "photo.png", ...QUICK_EDIT, ...EDIT, "-o", "cropped.png"], here);
  // 90x60 with 64 pixels around.
  expect(stderr).toMatch(/→ output 900x700 \(edited 218x188 around the mask, resized from \d+x\d+/);
  expect(stderr).toMatch(/paste back: 0\.\d+ % edited/);
  const { inside, outside } = differing(await pixels("cropped.png"), await pixels("photo.png"));
  expect(outside).toBe(0);
  expect(inside).toBeGreaterThan(0.8 * WHITE.width * WHITE.height);
});

test("a good model's edit stands where the mask is: keeping the picture keeps it, at the region's resolution", async () => {
  const keep = ["-p", "keep it as it is", "--model", "tiny", ...QUICK, "--megapixels", "0.06"];
  await succeed(["run", "photo.png", ...keep, ...EDIT, "-o", "kept.png"], here);
  const [made, original] = [await pixels("kept.png"), await pixels("photo.png")];
  let squares = 0;
  for (let y = WHITE.top; y < WHITE.top + WHITE.height; y++)
    for (let i = (y * SIZE.width + WHITE.left) * 3; i < (y * SIZE.width + WHITE.left + WHITE.width) * 3; i++)
      squares += (made[i]! - original[i]!) ** 2;
  expect(-10 * Math.log10(squares / (WHITE.width * WHITE.height * 3) / 255 ** 2)).toBeGreaterThan(27);
});

test("its recipe makes it again", async () => {
  const { stdout } = await succeed(["inspect", "cropped.png", "--json"], here);
  expect(JSON.parse(stdout)).toMatchObject({
    recipe: {
      settings: {
        encode_image: { region: { x: 436, y: 236, width: 218, height: 188 } },
        encode_prompt: { region: { width: 218 } },
        paste_back: { crop_mask: true, mask: true, feather: 4 },
      },
    },
  });
  await succeed(["rerun", "cropped.png", "-o", "again.png"], here);
  expect((await pixels("again.png")).equals(await pixels("cropped.png"))).toBe(true);
});

test("a margin that is asked for is kept to, inside the picture", async () => {
  const args = [...QUICK_EDIT, ...EDIT, "--mask-margin", "1000", "-o", "wide.png"];
  const { stderr } = await succeed(["run", "photo.png", ...args], here);
  expect(stderr).toMatch(/edited 900x700 around the mask/);
});

test("plan shows the region's sizes", async () => {
  const { stdout } = await succeed(["plan", "photo.png", ...QUICK_EDIT, ...EDIT, "--json"], here);
  expect(JSON.parse(stdout)).toMatchObject({
    sizes: { output: SIZE, target: { box: { x: 436, y: 236, width: 218, height: 188 } } },
  });
});

describe("is refused", () => {
  test.each([
    [["--crop-mask"], /Cannot use --crop-mask: there is no mask/, /--mask FILE/],
    [["--mask-margin", "9"], /--mask-margin has no effect without --crop-mask/, /Add --crop-mask/],
    [
      ["--crop-mask", "--mask", "cat.jpg"],
      /Cannot use cat\.jpg as mask: it is 451x300, picture 1 is 900x700/,
      undefined,
    ],
  ])("%j", async (args, message, hint) => {
    const ended = await qedit(["run", "photo.png", ...QUICK_EDIT, ...args, "-o", "no.png"], { cwd: here });
    expectRefusal(ended, { code: 2, message, ...(hint && { hint }) });
  });
});
