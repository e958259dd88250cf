// Why two pictures differ: recipes, pixels, and where.
import { copyFile, readFile } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, expect, test } from "vitest";
import { CAT, expectRefusal, qedit, ROCKET, workFolder } from "./qedit.js";
import { catIn, QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;

beforeAll(async () => {
  const cat = catIn(here);
  await Promise.all([
    succeed(["run", cat, ...QUICK_EDIT, "-o", "a.png"], here),
    succeed(["run", cat, ...QUICK_EDIT, "--seed", "8", "--steps", "3", "-o", "b.png"], here),
  ]);
  await copyFile(folder.at("a.png"), folder.at("same.png"));
}, 120_000);

test("settings that differ are named with both values, and the pixels compared", async () => {
  const { stdout } = await succeed(["diff", "a.png", "b.png"], here);
  expect(stdout).toMatch(/^settings:\n/);
  expect(stdout).toMatch(/sample\.seed +7 +8\n/);
  expect(stdout).toMatch(/sample\.steps +2 +3\n/);
  expect(stdout).toMatch(/sample\.sigmas +\[1,.*0\] +\[1,.*\]\n/);
  expect(stdout).toMatch(/pixels: [\d.]+ % differ, PSNR [\d.]+ dB, by up to \d+ of 255/);
  expect(stdout).not.toMatch(/inputs:|weights:|versions:/);
});

test("--json holds every difference and the exact figures", async () => {
  const { stdout } = await succeed(["diff", "a.png", "b.png", "--json"], here);
  const record = JSON.parse(stdout) as { differences: { what: string }[]; pixels: Record<string, number> };
  expect(record.differences.map(({ what }) => what)).toEqual(["sample.steps", "sample.seed", "sample.sigmas"]);
  expect(record).toMatchObject({
    files: ["a.png", "b.png"],
    recipes: [true, true],
    pixels: { identical: false, max: expect.any(Number), share: expect.any(Number) },
  });
});

test("equal pictures are identical, and --exit-code tells by the status", async () => {
  const same = await qedit(["diff", "a.png", "same.png", "--exit-code"], { cwd: here });
  expect(same).toMatchObject({ code: 0, stdout: "recipes: equal\npixels: identical\n" });
  expect(await qedit(["diff", "a.png", "b.png", "--exit-code"], { cwd: here })).toMatchObject({ code: 1 });
});

test("-o draws where they differ: black where they do not", async () => {
  const { data, info } = await sharp(CAT).raw().toBuffer({ resolveWithObject: true });
  const raw = { raw: { width: info.width, height: info.height, channels: 3 } } as const;
  await sharp(data, raw).png().toFile(folder.at("plain.png"));
  for (let i = 0; i < 30; i++) data[(100 * info.width + 200 + i) * 3] = 255 - data[(100 * info.width + 200 + i) * 3]!;
  await sharp(data, raw).png().toFile(folder.at("line.png"));
  const { stdout } = await succeed(["diff", "plain.png", "line.png", "-o", "heat.png"], here);
  expect(stdout).toContain("plain.png has no recipe\nline.png has no recipe\n");
  const heat = await sharp(folder.at("heat.png")).raw().toBuffer({ resolveWithObject: true });
  const lit = Array.from({ length: info.width * info.height }, (_, i) => i).filter((i) => heat.data[i * 3]! > 0);
  expect(lit.length).toBeGreaterThan(25);
  expect(lit.every((i) => Math.floor(i / info.width) === 100 && i % info.width >= 200 && i % info.width < 230)).toBe(
    true,
  );
  expectRefusal(await qedit(["diff", "plain.png", "line.png", "-o", "heat.png"], { cwd: here }), {
    code: 2,
    message: /heat\.png: it is there already/,
  });
});

test("-o with a slash at its end is a folder for a name of the heat map's own", async () => {
  const { stdout } = await succeed(["diff", "a.png", "b.png", "-o", "maps/"], here);
  expect(stdout).toMatch(/^heat map: maps\/a-diff\.png$/m);
  await succeed(["diff", "a.png", "b.png", "-o", "maps/", "--format", "webp"], here);
  expect((await sharp(folder.at("maps/a-diff.webp")).metadata()).format).toBe("webp");
  expectRefusal(await qedit(["diff", "a.png", "b.png", "-o", "maps/"], { cwd: here }), {
    code: 2,
    message: /a-diff\.png: it is there already/,
  });
});

test("- is the picture on stdin, once", async () => {
  const input = await readFile(folder.at("a.png"));
  const same = await qedit(["diff", "-", "same.png"], { cwd: here, input });
  expect(same).toMatchObject({ code: 0, stdout: "recipes: equal\npixels: identical\n" });
  const other = await qedit(["diff", "b.png", "-", "-o", "-"], { cwd: here, input });
  expect(await sharp(other.bytes).metadata()).toMatchObject({ format: "png", width: 144, height: 96 });
  expectRefusal(await qedit(["diff", "-", "-"], { cwd: here, input }), { code: 2, message: /2 inputs from stdin/ });
});

test("pictures that differ in transparency alone differ, and are drawn where they do", async () => {
  const size = { width: 20, height: 10 };
  const faded = Buffer.alloc(200 * 4, 255);
  faded[45 * 4 + 3] = 55;
  const write = (data: Buffer, channels: 3 | 4, name: string) =>
    sharp(data, { raw: { ...size, channels } })
      .png()
      .toFile(folder.at(name));
  await Promise.all([
    write(faded, 4, "faded.png"),
    write(Buffer.alloc(200 * 4, 255), 4, "rgba.png"),
    write(Buffer.alloc(200 * 3, 255), 3, "rgb.png"),
  ]);
  for (const other of ["rgba.png", "rgb.png"]) {
    const ended = await qedit(["diff", "faded.png", other, "--exit-code", "--force", "-o", "seen.png"], { cwd: here });
    // One pixel of 200; one value of 800, by 200: a mean of 0.25, and a PSNR of 10 · log10(255² · 800 / 200²).
    expect(ended.stdout).toContain("pixels: 0.5 % differ, PSNR 31.1 dB, by up to 200 of 255, 0.25 on average");
    expect(ended.code).toBe(1);
    const heat = await sharp(folder.at("seen.png")).raw().toBuffer({ resolveWithObject: true });
    expect(heat.info).toMatchObject({ ...size, channels: 3 });
    expect([...heat.data.keys()].filter((at) => heat.data[at]! > 0)).toEqual([135, 136, 137]);
  }
  expect(await qedit(["diff", "rgba.png", "rgb.png", "--exit-code"], { cwd: here })).toMatchObject({ code: 0 });
});

test("other sizes are told, and cannot be drawn", async () => {
  expect((await succeed(["diff", CAT, ROCKET], here)).stdout).toContain(
    "pixels: cannot be compared, 451x300 and 240x427",
  );
  expect(await qedit(["diff", CAT, ROCKET, "--exit-code"], { cwd: here })).toMatchObject({ code: 1 });
  expectRefusal(await qedit(["diff", CAT, ROCKET, "-o", "no.png"], { cwd: here }), {
    code: 2,
    message: /451x300 and 240x427/,
  });
});
