// Evaluates the tiny model: held-out photographs × edits through the edit service, with prompts that were not used in training.
// npm run eval:tiny [-- FOLDER | PICTURE …]  prints a table; exit code 1 below the thresholds.
// Uses `--model tiny`; other files: --vae, --text-encoder, --transformer, --lora.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { EDIT_PARAMETERS } from "../../src/edit/parameters/table.js";
import { readSettings } from "../../src/edit/recipe/recipe-settings.js";
import { modelLibrary } from "../../src/edit/resolve/model-library.js";
import { openModels, type ResolvedEdit, withNumbers } from "../../src/edit/resolve/resolve-edit.js";
import { openService } from "../../src/edit/service/service.js";
import { type FloatImage, type Image, toBytes, toFloat } from "../../src/image/image.js";
import { applySteps } from "../../src/image/resize/resize.js";
import { planSizes } from "../../src/image/resize/size-plan.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { parseLora } from "../../src/stages/networks/loras.js";
import { type Picture, readPictures, sourceOf } from "../../src/stages/pictures.js";
import { applyEdit, EDITS, type Edit } from "./edits.js";

/** Thresholds: share of results nearest to the right edit, and PSNR of the VAE in dB. */
const WANTED = { overall: 0.95, each: 0.8, two: 0.85, psnr: 28 };
const FILES = new URL("../../fixtures/tiny-model/", import.meta.url).pathname;
const HELD_OUT = ["astronaut.jpg", "cat.jpg", "rocket.jpg"].map(
  (name) => new URL(`../../fixtures/images/${name}`, import.meta.url).pathname,
);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vae: { type: "string", default: `${FILES}tiny_vae.safetensors` },
    "text-encoder": { type: "string", default: `${FILES}tiny_text_encoder_fp8_scaled.safetensors` },
    transformer: { type: "string", default: `${FILES}tiny_edit_fp8_e4m3fn.safetensors` },
    lora: { type: "string", multiple: true, default: [] },
    megapixels: { type: "string", default: "0.25" },
    photographs: { type: "string" },
    edits: { type: "string" },
    threads: { type: "string", default: "2" },
    "vae-only": { type: "boolean", default: false },
  },
});

const FILES_OF_EDIT = {
  vae: values.vae,
  textEncoder: values["text-encoder"],
  transformer: values.transformer,
  loras: values.lora.map(parseLora),
};
const models = await openModels(FILES_OF_EDIT, { strictLora: true }, { library: modelLibrary(), emit: () => {} });
const service = await openService({
  device: "cpu",
  threads: Number(values.threads),
  keepAlive: 60_000,
  emit: () => {},
  signal: new AbortController().signal,
});
try {
  process.exitCode = (await evaluate()) ? 0 : 1;
} finally {
  await service.close();
}

async function evaluate(): Promise<boolean> {
  const pictures = await readPictures(
    (await paths(positionals)).slice(0, values.photographs === undefined ? undefined : Number(values.photographs)),
  );
  const psnr = mean(await each(pictures, throughVae));
  console.log(`VAE: ${psnr.toFixed(2)} dB PSNR over ${pictures.length} held-out photographs (wanted ${WANTED.psnr})`);
  if (values["vae-only"]) return psnr >= WANTED.psnr;
  const chosen = values.edits?.split(",");
  const scores = new Map<Edit, number>();
  for (const each of EDITS.filter(({ name }) => chosen?.includes(name) ?? true)) {
    scores.set(each, await scoreOf(each, pictures));
  }
  const shares = (count: number) =>
    [...scores].filter(([{ pictures: taken }]) => taken === count).map(([, share]) => share);
  const [one, two] = [shares(1), shares(2)];
  const shown = (list: readonly number[]) => (list.length === 0 ? "not run" : percent(mean(list)));
  console.log(
    `one picture: ${shown(one)} (wanted ${percent(WANTED.overall)}, each ${percent(WANTED.each)}); two: ${shown(two)} (wanted ${percent(WANTED.two)})`,
  );
  return (
    psnr >= WANTED.psnr &&
    (one.length === 0 || mean(one) >= WANTED.overall) &&
    one.every((share) => share >= WANTED.each) &&
    (two.length === 0 || mean(two) >= WANTED.two)
  );
}

// Pictures of the given files and folders; without any, the test photographs, which were held out.
async function paths(given: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of given) {
    const isFolder = (await stat(path)).isDirectory();
    found.push(
      ...(isFolder
        ? (await readdir(path))
            .filter((name) => /\.(jpe?g|png|webp)$/i.test(name))
            .sort()
            .map((name) => join(path, name))
        : [path]),
    );
  }
  return found.length === 0 ? HELD_OUT : found;
}

function editWith(prompt: string): ResolvedEdit {
  const written = { prompt, megapixels: Number(values.megapixels), steps: 4, cfg: 1, seed: "42" };
  return { settings: withNumbers(readSettings(EDIT_PARAMETERS, written)), models, files: FILES_OF_EDIT };
}

async function edited(prompt: string, pictures: readonly Picture[]): Promise<Image> {
  let image: Image | undefined;
  const job = service.submit({
    resolved: editWith(prompt),
    pictures: async () => pictures,
    onPicture: async (made) => void (image = made.image),
  });
  const outcome = await job.outcome;
  if (outcome.state === "failed") throw outcome.error;
  return image!;
}

// The input pictures of an edit for the model.
function seen(pictures: readonly Picture[]): FloatImage[] {
  const { images } = planSizes(pictures.map(sourceOf), { megapixels: Number(values.megapixels) });
  return pictures.map(({ image }, index) => applySteps(image, images[index]!.reference.steps));
}

async function throughVae(picture: Picture): Promise<number> {
  const { settings } = editWith("");
  const latents = await service.runStage(encodeImage, { inputs: { pictures: [picture] }, models, settings });
  const samples = { ...latents, kind: "samples" as const, tensors: { latent_tensor: latents.tensors["latent"]! } };
  const { image } = await service.decode({ inputs: { samples }, models, settings });
  return -10 * Math.log10(meanSquare(asShown(image), seen([picture])[0]!));
}

// Share of the photographs whose result is nearer to this edit of them than to every other edit of as many pictures.
async function scoreOf(wanted: Edit, pictures: readonly Picture[]): Promise<number> {
  const rivals = new Map<string, number>();
  let [right, psnr] = [0, 0];
  for (const [index, picture] of pictures.entries()) {
    const given = wanted.pictures === 1 ? [picture] : [picture, pictures[(index + 1) % pictures.length]!];
    const result = asShown(await edited(wanted.held_out, given));
    const [first, second] = seen(given);
    const errors = EDITS.filter(({ pictures: taken }) => taken <= wanted.pictures).map((each) => ({
      each,
      error: meanSquare(result, applyEdit(each, first!, second)),
    }));
    const nearest = errors.reduce((best, next) => (next.error < best.error ? next : best));
    if (nearest.each === wanted) right += 1;
    else rivals.set(nearest.each.name, (rivals.get(nearest.each.name) ?? 0) + 1);
    psnr -= (10 * Math.log10(errors.find(({ each }) => each === wanted)!.error)) / pictures.length;
  }
  const taken = [...rivals].map(([name, count]) => `${name} ${count}`).join(", ");
  console.log(
    `${wanted.name.padEnd(22)} ${percent(right / pictures.length).padStart(6)}  ${psnr.toFixed(1)} dB${taken && `  taken for: ${taken}`}`,
  );
  return right / pictures.length;
}

function asShown(image: Parameters<typeof toBytes>[0]): FloatImage {
  return toFloat(toBytes(image, "round"));
}

function meanSquare(a: FloatImage, b: FloatImage): number {
  if (a.width !== b.width || a.height !== b.height)
    throw new Error(`internal: a result of ${a.width}x${a.height} for ${b.width}x${b.height}`);
  return mean(Array.from(a.data, (value, i) => (value - b.data[i]!) ** 2));
}

async function each<Item>(items: readonly Item[], score: (item: Item) => Promise<number>): Promise<number[]> {
  const scores: number[] = [];
  for (const item of items) scores.push(await score(item));
  return scores;
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0) / Math.max(numbers.length, 1);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
