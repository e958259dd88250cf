// Drift and pasting back in whole edits. The tiny models paint noise, so nothing of a photo can be found in what they make.
import { readFile, writeFile } from "node:fs/promises";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { CAT, expectRefusal, qedit, workFolder } from "./qedit.js";
import { catIn, QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;
const cat = catIn(here);
const SIZE = { width: 451, height: 300 };
const WHITE = { left: 60, top: 80, width: 120, height: 90 };

/** A mask with a white rectangle, of picture 1's size times scale. */
async function mask(name: string, scale = 1): Promise<string> {
  const scaled = {
    width: Math.round(WHITE.width * scale),
    height: Math.round(WHITE.height * scale),
    left: Math.round(WHITE.left * scale),
    top: Math.round(WHITE.top * scale),
  };
  const create = {
    width: Math.round(SIZE.width * scale),
    height: Math.round(SIZE.height * scale),
    channels: 3,
    background: "black",
  } as const;
  const white = await sharp({ create: { ...create, width: scaled.width, height: scaled.height, background: "white" } })
    .png()
    .toBuffer();
  await sharp({ create })
    .composite([{ input: white, left: scaled.left, top: scaled.top }])
    .png()
    .toFile(folder.at(name));
  return name;
}

const pixels = (path: string) => sharp(path).raw().toBuffer();

/** Indexes of pixels that differ. */
function differing(a: Buffer, b: Buffer): number[] {
  return Array.from({ length: a.length / 3 }, (_, i) => i).filter(
    (i) => !a.subarray(i * 3, i * 3 + 3).equals(b.subarray(i * 3, i * 3 + 3)),
  );
}

const isInside = (index: number) => {
  const [x, y] = [index % SIZE.width, Math.floor(index / SIZE.width)];
  return x >= WHITE.left && x < WHITE.left + WHITE.width && y >= WHITE.top && y < WHITE.top + WHITE.height;
};

test("drift is told after an edit, in the result and as an event, and is not part of the recipe", async () => {
  const { stdout, stderr } = await succeed(
    ["run", cat, ...QUICK_EDIT, "--json", "--events", "events.ndjson", "-o", "told.png"],
    here,
  );
  expect(stderr).toContain("drift: cannot tell");
  expect(JSON.parse(stdout)).toMatchObject({ output: "told.png", drift: null });
  const events = (await readFile(folder.at("events.ndjson"), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string });
  expect(events.filter(({ event }) => event === "drift")).toHaveLength(1);
  expect((await readFile(folder.at("told.png"))).includes("drift")).toBe(false);
});

test("--no-metadata leaves the recipe out of png, jpg and webp, from run and from decode", async () => {
  await succeed(["run", cat, ...QUICK_EDIT, "--no-metadata", "--keep", "kept", "-o", "bare.png"], here);
  await succeed(
    [
      "decode",
      "kept/samples.safetensors",
      ...QUICK_EDIT.slice(2, 4),
      "--device",
      "cpu",
      "--no-metadata",
      "-o",
      "bare.webp",
    ],
    here,
  );
  for (const name of ["bare.png", "bare.webp"]) {
    const bytes = await readFile(folder.at(name));
    for (const trace of ["make it red", "cat.jpg", "encode_image"]) expect(bytes.includes(trace)).toBe(false);
  }
});

describe("--paste-back with a mask", () => {
  test("keeps exactly picture 1's pixels outside it at picture 1's size, and changes those inside", async () => {
    const original = await pixels(CAT);
    await succeed(
      [
        "run",
        cat,
        ...QUICK_EDIT,
        "--keep-size",
        "--paste-back",
        "--mask",
        await mask("mask.png"),
        "--feather",
        "4",
        "-o",
        "pasted.png",
      ],
      here,
    );
    const changed = differing(await pixels(folder.at("pasted.png")), original);
    expect(changed.every(isInside)).toBe(true);
    expect(changed.length).toBeGreaterThan(0.9 * WHITE.width * WHITE.height);
  });

  // Sides of other masks are rounded: their white reaches into the next pixel.
  test.each([
    [2, 0],
    [0.5, 1],
    [1.5, 1],
  ])("keeps picture 1's pixels where a mask of %d times its size is black", async (scale, reach) => {
    const isTouched = (index: number) => {
      const [x, y] = [index % SIZE.width, Math.floor(index / SIZE.width)];
      return (
        x >= WHITE.left - reach &&
        x < WHITE.left + WHITE.width + reach &&
        y >= WHITE.top - reach &&
        y < WHITE.top + WHITE.height + reach
      );
    };
    const original = await pixels(CAT);
    const size = ["--paste-back", "--keep-size"];
    for (const [name, args] of [
      ["kept", size],
      ["region", ["--crop-mask"]],
    ] as const) {
      const painted = await mask("scaled.png", scale);
      await succeed(
        ["run", cat, ...QUICK_EDIT, ...args, "--mask", painted, "--feather", "0", "--force", "-o", `${name}.png`],
        here,
      );
      const changed = differing(await pixels(folder.at(`${name}.png`)), original);
      expect(changed.every(isTouched)).toBe(true);
      expect(changed.length).toBeGreaterThan(0.9 * WHITE.width * WHITE.height);
    }
  });

  test("takes a mask of half the size, and gives a result of the model's size", async () => {
    await succeed(
      ["run", cat, ...QUICK_EDIT, "--paste-back", "--mask", await mask("half.png", 0.5), "-o", "small.png"],
      here,
    );
    expect(await sharp(folder.at("small.png")).metadata()).toMatchObject({ width: 144, height: 96 });
    const { data } = await sharp(folder.at("small.png"))
      .extract({ left: 100, top: 10, width: 40, height: 80 })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const wanted = await sharp(CAT)
      .resize(144, 96, { fit: "fill", kernel: "lanczos3" })
      .extract({ left: 100, top: 10, width: 40, height: 80 })
      .raw()
      .toBuffer();
    const mean = data.reduce((sum, value, i) => sum + Math.abs(value - wanted[i]!), 0) / data.length;
    expect(mean).toBeLessThan(4);
  });

  test("is in the recipe, with the mask's hash and name", async () => {
    const { stdout } = await succeed(["inspect", "pasted.png", "--json"], here);
    expect(JSON.parse(stdout)).toMatchObject({
      recipe: {
        settings: { paste_back: { version: 3, mask: true, feather: 4 } },
        inputs: { mask: expect.stringMatching(/^[0-9a-f]{64}$/) },
        names: { mask: "mask.png" },
      },
    });
  });
});

test("--paste-back without a mask pastes nothing back where the edit changed the whole picture", async () => {
  await succeed(["run", cat, ...QUICK_EDIT, "--no-metadata", "-o", "whole.png"], here);
  const { stderr } = await succeed(
    ["run", cat, ...QUICK_EDIT, "--no-metadata", "--paste-back", "-o", "detected.png"],
    here,
  );
  expect(stderr).toMatch(/^warning: paste back: the edit changed the whole picture.*: nothing was pasted back$/m);
  expect((await readFile(folder.at("detected.png"))).equals(await readFile(folder.at("whole.png")))).toBe(true);
});

describe("what cannot be", () => {
  test.each([
    [["--mask", "mask.png"], /--mask has no effect without --paste-back/, /Add --paste-back/],
    [["--feather", "3"], /--feather has no effect without --paste-back/, /Add --paste-back/],
    [
      ["--paste-back", "--mask", "square.png"],
      /Cannot use square\.png as mask: it is 50x50, picture 1 is 451x300/,
      /white where the edit belongs/,
    ],
    [["--paste-back", "--mask", "black.png"], /Cannot use black\.png as mask: it is black everywhere/, /Paint white/],
    [
      ["--paste-back", "--mask", "alpha.png"],
      /Cannot use alpha\.png as mask: it is white everywhere, and painted in its transparency alone/,
      /Paint white where the edit belongs; transparency does not count/,
    ],
    [["--paste-back", "--mask", "nowhere.png"], /Cannot read nowhere\.png/, undefined],
    [["--paste-back", "--mask", "text.png"], /Cannot read text\.png/, undefined],
  ])("%j is refused before anything is computed", async (args, message, hint) => {
    const create = (width: number, height: number, background: string) =>
      sharp({ create: { width, height, channels: 3, background } }).png();
    await Promise.all([
      create(50, 50, "white").toFile(folder.at("square.png")),
      create(451, 300, "black").toFile(folder.at("black.png")),
      create(451, 300, "white")
        .joinChannel(Buffer.alloc(451 * 300).fill(255, 9000), { raw: { width: 451, height: 300, channels: 1 } })
        .toFile(folder.at("alpha.png")),
      writeFile(folder.at("text.png"), "no picture"),
      mask("mask.png"),
    ]);
    const ended = await qedit(["run", cat, ...QUICK_EDIT, ...args, "-o", "no.png"], { cwd: here });
    expectRefusal(ended, { code: 2, message, ...(hint && { hint }) });
    expect(ended.stderr).not.toContain("reference");
  });
});
