// What an edit does to large photographs on the processor beside its networks: resizing to a megapixel and to what the vision tower sees, beside
// Pillow, and the measurement of drift.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { measureDrift } from "../../src/image/compare/drift.js";
import type { Image, Size } from "../../src/image/image.js";
import { lanczos } from "../../src/image/resize/lanczos.js";
import { type Figure, inTurns, type Part, processorSeconds } from "./figure.js";

const ROUNDS = 5;
const PHOTOS: readonly Size[] = [
  { width: 4000, height: 3000 },
  { width: 8660, height: 5773 },
];
/** Of the result, and of what the vision tower sees. */
const SIZES = { "the VAE": { width: 1184, height: 880 }, "the vision tower": { width: 448, height: 336 } } as const;
/** Most milliseconds of all that an edit does to a photograph of 12 megapixels. */
const HOST_GOAL = 350;

const PILLOW = `
import sys, time
import numpy as np
from PIL import Image
width, height, to_width, to_height, rounds = map(int, sys.argv[1:])
picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
def spent():
    start = time.process_time()
    picture.resize((to_width, to_height), Image.LANCZOS)
    return (time.process_time() - start) * 1000
spent()
print(sorted(spent() for _ in range(rounds))[rounds // 2])
`;

/** Photographs. */
export const PHOTOGRAPHS: Part = {
  what: "large photographs, beside Pillow",
  async measure({ python }) {
    const figures: Figure[] = [];
    for (const size of PHOTOS) figures.push(...(await photoFigures(size, python)));
    return figures;
  },
};

async function photoFigures(size: Size, python: string | undefined): Promise<Figure[]> {
  const picture = await photo(size);
  const megapixels = `${Math.round((size.width * size.height) / 1e6)} MP`;
  const figures: Figure[] = [];
  for (const [whom, to] of Object.entries(SIZES)) {
    const sides = [() => milliseconds(() => lanczos(picture, to)), ...(python ? [() => pillow(python, size, to)] : [])];
    const [qedit, value] = await inTurns(sides, ROUNDS);
    const peer = value === undefined ? {} : { peer: { name: "Pillow", value } };
    figures.push({
      name: `Lanczos of ${megapixels} for ${whom}`,
      unit: "ms",
      qedit: qedit!,
      ...peer,
      goal: { ratio: 1 },
    });
  }
  const result = lanczos(picture, SIZES["the VAE"]);
  const [drift] = await inTurns([() => milliseconds(() => measureDrift(result, picture))], ROUNDS);
  const all = figures.reduce((sum, { qedit }) => sum + qedit, drift!);
  const goal = size === PHOTOS[0] ? { goal: { value: HOST_GOAL } } : {};
  return [
    ...figures,
    { name: `drift of ${megapixels}`, unit: "ms", qedit: drift! },
    { name: `host work of an edit of ${megapixels}`, unit: "ms", qedit: all, ...goal },
  ];
}

async function photo({ width, height }: Size): Promise<Image> {
  const path = fileURLToPath(new URL("../../fixtures/images/cat.jpg", import.meta.url));
  const data = await sharp(path).resize(width, height, { fit: "fill" }).removeAlpha().raw().toBuffer();
  return { width, height, data };
}

async function milliseconds(work: () => unknown): Promise<number> {
  return (await processorSeconds(work)) * 1000;
}

function pillow(python: string, { width, height }: Size, to: Size): number {
  const sizes = [width, height, to.width, to.height].map(String);
  return Number(execFileSync(python, ["-c", PILLOW, ...sizes, "1"], { encoding: "utf8" }));
}
