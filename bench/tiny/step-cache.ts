// What the step cache loses and saves on the tiny model: the edits of edits.ts on photographs that its training never saw, at several thresholds, beside the
// same edits computed whole. npx tsx bench/tiny/step-cache.ts [PICTURE …]  prints a table in Markdown. CPU seconds are of the sample stage, all threads;
// the sides of an edit follow one another.
import { parseArgs } from "node:util";
import { EDIT_PARAMETERS } from "../../src/edit/parameters/table.js";
import { readSettings } from "../../src/edit/recipe/recipe-settings.js";
import { modelLibrary } from "../../src/edit/resolve/model-library.js";
import { openModels, withNumbers } from "../../src/edit/resolve/resolve-edit.js";
import { openService } from "../../src/edit/service/service.js";
import { pixelDifference } from "../../src/image/compare/difference.js";
import type { Image } from "../../src/image/image.js";
import { type Picture, readPictures } from "../../src/stages/pictures.js";
import { EDITS } from "./edits.js";

const FILES = new URL("../../fixtures/tiny-model/", import.meta.url).pathname;
const PHOTOGRAPHS = ["cat.jpg", "rocket.jpg"].map(
  (name) => new URL(`../../fixtures/images/${name}`, import.meta.url).pathname,
);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    thresholds: { type: "string", default: "0.0005,0.001,0.002,0.005,0.01,0.05" },
    steps: { type: "string", default: "20" },
    cfg: { type: "string", default: "1" },
    megapixels: { type: "string", default: "0.1" },
    edits: { type: "string" },
    threads: { type: "string", default: "1" },
  },
});

const files = {
  vae: `${FILES}tiny_vae.safetensors`,
  textEncoder: `${FILES}tiny_text_encoder_fp8_scaled.safetensors`,
  transformer: `${FILES}tiny_edit_fp8_e4m3fn.safetensors`,
  loras: [],
};
const models = await openModels(files, { strictLora: true }, { library: modelLibrary(), emit: () => {} });

interface Made {
  readonly image: Image;
  readonly seconds: number;
  readonly whole: number;
  readonly reused: number;
}

let begun = process.cpuUsage();
let sampling = 0;
let evaluations = { whole: 0, reused: 0 };
const service = await openService({
  device: "cpu",
  threads: Number(values.threads),
  keepAlive: 60_000,
  signal: new AbortController().signal,
  emit(event) {
    if (event.kind === "start" && event.stage === "sample") begun = process.cpuUsage();
    if (event.kind === "note" && event.evaluations) evaluations = event.evaluations;
    if (event.kind !== "end" || event.stage !== "sample") return;
    const { user, system } = process.cpuUsage(begun);
    sampling = (user + system) / 1e6;
  },
});

async function edited(prompt: string, pictures: readonly Picture[], stepCache: number | undefined): Promise<Made> {
  const { megapixels, steps, cfg } = values;
  const written = {
    ...{ prompt, megapixels: Number(megapixels), steps: Number(steps), cfg: Number(cfg), seed: "42" },
    ...(Number(cfg) !== 1 && { negativePrompt: "" }),
    ...(stepCache !== undefined && { stepCache }),
  };
  const settings = withNumbers(readSettings(EDIT_PARAMETERS, written));
  evaluations = { whole: 0, reused: 0 };
  let image: Image | undefined;
  const job = service.submit({
    resolved: { settings, models, files },
    pictures: async () => pictures,
    onPicture: async (made) => void (image = made.image),
  });
  const outcome = await job.outcome;
  if (outcome.state === "failed") throw outcome.error;
  return { image: image!, seconds: sampling, ...evaluations };
}

interface Row {
  readonly decibels: number[];
  readonly shares: number[];
  readonly counts: { whole: number; reused: number };
}

const thresholds = values.thresholds.split(",").map(Number);
const rows = new Map<number, Row>(
  thresholds.map((each) => [each, { decibels: [], shares: [], counts: { whole: 0, reused: 0 } }]),
);
try {
  const pictures = await readPictures(positionals.length === 0 ? PHOTOGRAPHS : positionals);
  const chosen = values.edits?.split(",");
  const edits = EDITS.filter(({ name }) => chosen?.includes(name) ?? true);
  for (const { held_out: prompt, pictures: taken } of edits) {
    for (const [index, picture] of pictures.entries()) {
      const given = taken === 1 ? [picture] : [picture, pictures[(index + 1) % pictures.length]!];
      const without = await edited(prompt, given, undefined);
      for (const [threshold, { decibels, shares, counts }] of rows) {
        const { image, seconds, whole, reused } = await edited(prompt, given, threshold);
        const { psnr, identical } = pixelDifference(without.image, image);
        decibels.push(identical ? Number.POSITIVE_INFINITY : psnr!);
        shares.push(seconds / without.seconds);
        counts.whole += whole;
        counts.reused += reused;
      }
    }
  }
  const made = edits.length * pictures.length;
  console.log(`${made} edits of ${values.steps} steps at cfg ${values.cfg}, ${values.megapixels} megapixels\n`);
  console.log("| threshold | reused | PSNR, median | PSNR, lowest | CPU time of sampling, median |");
  console.log("| --------- | ------ | ------------ | ------------ | ---------------------------- |");
  for (const [threshold, { decibels, shares, counts }] of rows) {
    const reused = counts.reused / (counts.whole + counts.reused);
    const cells = [
      threshold,
      percent(reused),
      shown(median(decibels)),
      shown(Math.min(...decibels)),
      percent(median(shares)),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
} finally {
  await service.close();
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function shown(decibels: number): string {
  return Number.isFinite(decibels) ? `${decibels.toFixed(1)} dB` : "the same pixels";
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
