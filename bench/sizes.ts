// How well results lie over their originals, by size plan: "keep it as it is" by the embedded model at twenty sizes, PSNR over the whole original.
// node --import ./test/support/run-typescript.mjs bench/sizes.ts [--megapixels 0.25]  prints the table of docs/sizes.md.
import { parseArgs } from "node:util";
import { EDIT_PARAMETERS, type EditSettings } from "../src/edit/parameters/table.js";
import { readSettings } from "../src/edit/recipe/recipe-settings.js";
import { modelLibrary } from "../src/edit/resolve/model-library.js";
import { openModels, withNumbers } from "../src/edit/resolve/resolve-edit.js";
import { openService } from "../src/edit/service/service.js";
import { type Box, crop, type Image, type Size } from "../src/image/image.js";
import { readImage } from "../src/image/io/read.js";
import { lanczos } from "../src/image/resize/lanczos.js";
import { EDIT_SIZES } from "../src/image/resize/size-rules.js";
import { bestSize, centredBox, MEGAPIXEL } from "../src/image/resize/sizes.js";

const { values } = parseArgs({ options: { megapixels: { type: "string", default: "0.25" } } });
const MEGAPIXELS = Number(values.megapixels);

/** Sizes of screens and cameras, scaled down, and odd ones. */
const SIZES = (
  "533x397 451x300 512x512 480x270 500x281 640x359 333x500 427x640 360x641 601x401 " +
  "455x455 523x349 399x533 700x301 301x700 613x345 577x433 489x611 551x413 640x427"
)
  .split(" ")
  .map((text) => text.split("x").map(Number) as [number, number]);

const TINY = new URL("../fixtures/tiny-model/", import.meta.url).pathname;
const files = {
  vae: `${TINY}tiny_vae.safetensors`,
  textEncoder: `${TINY}tiny_text_encoder_fp8_scaled.safetensors`,
  transformer: `${TINY}tiny_edit_fp8_e4m3fn.safetensors`,
  loras: [],
};
const models = await openModels(files, { strictLora: true }, { library: modelLibrary(), emit: () => {} });
const photograph = await readImage(new URL("../fixtures/images/astronaut.jpg", import.meta.url).pathname);

const service = await openService({
  device: "cpu",
  threads: 2,
  keepAlive: 60_000,
  emit: () => {},
  signal: new AbortController().signal,
});
try {
  await measure();
} finally {
  await service.close();
}

async function measure(): Promise<void> {
  console.log("| size | cropped | qedit's | qedit's, `--keep-size` |");
  console.log("| --- | --- | --- | --- |");
  const rows: number[][] = [];
  for (const [width, height] of SIZES) {
    const original = cut({ width, height });
    const over = (result: Image) => psnr(lanczos(result, original), original);
    const row = [
      // As if the picture had been cropped to the result's proportions, and the result laid over all of it.
      over(await kept(crop(original, croppedBox(original)), {})),
      over(await kept(original, {})),
      psnr(await kept(original, { keepSize: true }), original),
    ];
    rows.push(row);
    console.log(`| ${[`${width}x${height}`, ...row.map((value) => value.toFixed(1))].join(" | ")} |`);
  }
  const means = rows[0]!.map((_, column) => rows.reduce((sum, row) => sum + row[column]!, 0) / rows.length);
  console.log(`| ${["mean", ...means.map((value) => value.toFixed(1))].join(" | ")} |`);
}

// The largest part of the photograph with that shape, at that size.
function cut(size: Size): Image {
  return lanczos(crop(photograph, centredBox(photograph, size)), size);
}

function croppedBox(original: Size): Box {
  return centredBox(original, bestSize(original, MEGAPIXELS * MEGAPIXEL, EDIT_SIZES.multiple));
}

async function kept(image: Image, changed: Partial<EditSettings>): Promise<Image> {
  const written = { prompt: "keep it as it is", megapixels: MEGAPIXELS, steps: 4, cfg: 1, seed: "42", ...changed };
  let result: Image | undefined;
  const { outcome } = service.submit({
    resolved: { settings: withNumbers(readSettings(EDIT_PARAMETERS, written)), models, files },
    pictures: async () => [{ name: "photograph", image, hash: "" }],
    onPicture: async (made) => void (result = made.image),
  });
  const ended = await outcome;
  if (ended.state === "failed") throw ended.error;
  return result!;
}

function psnr(a: Image, b: Image): number {
  const squares = a.data.reduce((sum, value, index) => sum + (value - b.data[index]!) ** 2, 0);
  return -10 * Math.log10(squares / a.data.length / 255 ** 2);
}
