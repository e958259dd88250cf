// --keep-exif, --jpeg-quality and --webp-quality in whole edits.
import { readFileSync } from "node:fs";
import sharp from "sharp";
import { beforeAll, expect, test } from "vitest";
import { cameraExif } from "../../src/image/io/camera-exif.js";
import { CAT, expectRefusal, qedit, workFolder } from "./qedit.js";
import { QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;

beforeAll(async () => {
  await sharp(CAT)
    .withExif({ IFD0: { Make: "Maker", Model: "Camera 1" }, IFD2: { DateTimeOriginal: "2024:05:06 07:08:09" } })
    .toFile(folder.at("photo.jpg"));
});

test("--keep-exif keeps the camera's EXIF beside the recipe, which goes without it", async () => {
  for (const name of ["kept.jpg", "kept.png", "kept.webp"]) {
    await succeed(["run", "photo.jpg", ...QUICK_EDIT, "--keep-exif", "-o", name], here);
    expect(cameraExif(readFileSync(folder.at(name)))!.includes("Camera 1")).toBe(true);
    const { stdout } = await succeed(["inspect", name, "--json"], here);
    expect(JSON.parse(stdout)).toMatchObject({ recipe: { settings: { encode_prompt: { prompt: "make it red" } } } });
  }
  await succeed(["run", "photo.jpg", ...QUICK_EDIT, "-o", "bare.jpg"], here);
  expect(readFileSync(folder.at("bare.jpg")).includes("Camera 1")).toBe(false);
});

test("--keep-exif says where there is none to keep", async () => {
  const { stderr } = await succeed(["run", CAT, ...QUICK_EDIT, "--keep-exif", "-o", "none.png"], here);
  expect(stderr).toMatch(/cat\.jpg has no EXIF that could be kept/);
});

test("--jpeg-quality and --webp-quality decide the size of the file, and are refused where they have no effect", async () => {
  const size = async (name: string, ...args: readonly string[]) => {
    await succeed(["run", "photo.jpg", ...QUICK_EDIT, "--no-metadata", ...args, "-o", name], here);
    return readFileSync(folder.at(name)).length;
  };
  expect(await size("low.jpg", "--jpeg-quality", "30")).toBeLessThan(0.6 * (await size("usual.jpg")));
  expect(await size("low.webp", "--webp-quality", "30")).toBeLessThan(0.6 * (await size("usual.webp")));
  expectRefusal(
    await qedit(["run", "photo.jpg", ...QUICK_EDIT, "--jpeg-quality", "80", "-o", "no.png"], { cwd: here }),
    {
      code: 2,
      message: /Cannot use --jpeg-quality for a png picture: it has no effect/,
      hint: /end the name of the output in \.jpg/,
    },
  );
});
