// How well the tiny model edits: held-out photographs × edits through the CLI's own pipeline, each in a wording that training never saw.
// npm run eval:tiny [-- FOLDER | PICTURE …]  prints a table; exit code 1 below the thresholds.
// The model is what `--model tiny` names; other files: --vae, --text-encoder, --transformer, --lora.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { completeSettings } from "../../src/cli/settings/settings.js";
import { memory, type PipelineContext } from "../../src/edit/context.js";
import { type EditSettings, edit, editOptions } from "../../src/edit/edit.js";
import { keptEngine } from "../../src/edit/kept-engine.js";
import { parseDevice } from "../../src/engine/providers.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type FloatImage, toBytes, toFloat } from "../../src/image/image.js";
import { applySteps } from "../../src/image/resize/resize.js";
import { planSizes } from "../../src/image/resize/size-plan.js";
import { decode } from "../../src/stages/decode.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { type Picture, readPictures, sourceOf } from "../../src/stages/pictures.js";
import { applyEdit, EDITS, type Edit } from "./edits.js";

/** What is asked of it: share of results nearest to the right edit, and PSNR of the VAE in dB. */
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

const engine = keptEngine(await directEngine(parseDevice("cpu", Number(values.threads))), () => {});
engine.hold();
const context: PipelineContext = {
  engine,
  recall: memory(),
  cache: undefined,
  memory: async () => undefined,
  emit: () => {},
  signal: new AbortController().signal,
};
try {
  process.exitCode = (await evaluate()) ? 0 : 1;
} finally {
  await engine.dispose();
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

function settingsFor(prompt: string): EditSettings {
  return {
    ...completeSettings(
      editOptions,
      new Map([["prompt", { value: prompt, layer: "flag" as const, name: "--prompt" }]]),
    ),
    vae: values.vae,
    textEncoder: values["text-encoder"],
    transformer: values.transformer,
    lora: values.lora,
    megapixels: Number(values.megapixels),
    steps: 4,
    cfg: 1,
    seed: 42n,
  };
}

// The pictures of an edit as the model is given them.
function seen(pictures: readonly Picture[]): FloatImage[] {
  const { images } = planSizes(pictures.map(sourceOf), { megapixels: Number(values.megapixels) });
  return pictures.map(({ image }, index) => applySteps(image, images[index]!.reference.steps));
}

async function throughVae(picture: Picture): Promise<number> {
  const settings = settingsFor("");
  const latents = await encodeImage.run({ pictures: [picture] }, settings, context);
  const samples = { ...latents, kind: "samples" as const, tensors: { latent_tensor: latents.tensors["latent"]! } };
  const { image } = await decode.run({ samples }, settings, context);
  return -10 * Math.log10(meanSquare(asShown(image), seen([picture])[0]!));
}

// Share of the photographs whose result is nearer to this edit of them than to every other edit of as many pictures.
async function scoreOf(wanted: Edit, pictures: readonly Picture[]): Promise<number> {
  const rivals = new Map<string, number>();
  let [right, psnr] = [0, 0];
  for (const [index, picture] of pictures.entries()) {
    const given = wanted.pictures === 1 ? [picture] : [picture, pictures[(index + 1) % pictures.length]!];
    const { image } = await edit({ pictures: given, settings: settingsFor(wanted.held_out), keep: undefined }, context);
    const result = asShown(image);
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
