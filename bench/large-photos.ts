// What an edit does to large photographs on the processor beside its networks: resizing to a megapixel and to what the vision tower sees, and the
// measurement of drift; beside Pillow, the two taking turns.
// node --import ./test/support/run-typescript.mjs bench/large-photos.ts [--python PYTHON] [--rounds 5]     PYTHON has pillow and numpy
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { measureDrift } from "../src/image/compare/drift.js";
import type { Image, Size } from "../src/image/image.js";
import { lanczos } from "../src/image/resize/lanczos.js";

const { values } = parseArgs({ options: { python: { type: "string" }, rounds: { type: "string", default: "5" } } });
const rounds = Number(values.rounds);

const PHOTOS: readonly Size[] = [
  { width: 4000, height: 3000 },
  { width: 8660, height: 5773 },
];
/** Of the result, and of what the vision tower sees. */
const EDIT = { width: 1184, height: 880 };
const VISION = { width: 448, height: 336 };

/** Milliseconds. */
interface Times {
  readonly edit: number;
  readonly vision: number;
}

const PILLOW = `
import sys, time
import numpy as np
from PIL import Image
width, height = map(int, sys.argv[1:3])
picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
def spent(size):
    start = time.perf_counter()
    picture.resize(size, Image.LANCZOS)
    return (time.perf_counter() - start) * 1000
print(spent((${EDIT.width}, ${EDIT.height})), spent((${VISION.width}, ${VISION.height})))
`;

async function photo({ width, height }: Size): Promise<Image> {
  const path = fileURLToPath(new URL("../fixtures/images/cat.jpg", import.meta.url));
  const data = await sharp(path).resize(width, height, { fit: "fill" }).removeAlpha().raw().toBuffer();
  return { width, height, data };
}

function spent(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

function ofPillow({ width, height }: Size): Times {
  const out = execFileSync(values.python!, ["-c", PILLOW, String(width), String(height)], { encoding: "utf8" });
  const [edit, vision] = out.split(" ").map(Number) as [number, number];
  return { edit, vision };
}

const median = (list: readonly number[]) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]!;

console.log("| photograph | resized for | qedit | Pillow | ratio |");
console.log("| --- | --- | ---: | ---: | ---: |");
for (const size of PHOTOS) {
  const picture = await photo(size);
  const own: Times[] = [];
  const pillow: Times[] = [];
  const drift: number[] = [];
  for (let round = 0; round < rounds; round++) {
    own.push({ edit: spent(() => lanczos(picture, EDIT)), vision: spent(() => lanczos(picture, VISION)) });
    if (values.python) pillow.push(ofPillow(size));
    const result = lanczos(picture, EDIT);
    drift.push(spent(() => measureDrift(result, picture)));
  }
  const megapixels = `${Math.round((size.width * size.height) / 1e6)} MP`;
  for (const what of ["edit", "vision"] as const) {
    const [mine, theirs] = [median(own.map((each) => each[what])), median(pillow.map((each) => each[what]))];
    const peer = values.python ? `${theirs.toFixed(0)} ms | ${(mine / theirs).toFixed(2)}` : " | ";
    console.log(
      `| ${megapixels} | ${what === "edit" ? "the VAE" : "the vision tower"} | ${mine.toFixed(0)} ms | ${peer} |`,
    );
  }
  console.log(`| ${megapixels} | drift | ${median(drift).toFixed(0)} ms | | |`);
}
console.log(`\nresident at most: ${(process.resourceUsage().maxRSS / 1e6).toFixed(2)} GB`);
