// Two blocks of the published widths with random weights: whole, and streamed with fed modulation.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { randomCheckpoint } from "../../bench/random-checkpoint.js";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { directEngine } from "../../src/engine/direct.js";
import type { ProgressEvent } from "../../src/events.js";
import { transformerConfig } from "../../src/models/qwen-image/config.js";
import { numbersOf, readNetworkFile } from "../../src/stages/network-file.js";
import { withTransformer } from "../../src/stages/open-transformer.js";
import { tokenLengths, velocityOf } from "../../src/stages/velocity.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";

/** float32 sums in another order, over rows of up to 12288. */
const SAME = 1e-5;
const BLOCKS = 2;

const folder = await mkdtemp(join(tmpdir(), "qedit-width-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a transformer of the published widths gives the same velocity whole and streamed", { timeout: 300_000 }, async () => {
  const path = join(folder, "transformer.safetensors");
  const tensors = publishedTensors("qwen_image_edit_2509_fp8_e4m3fn");
  await randomCheckpoint(path, tensors.filter(({ name }) => Number(/^transformer_blocks\.(\d+)\./.exec(name)?.[1] ?? 0) < BLOCKS));
  const file = await readNetworkFile(path, { name: "transformer", option: "--transformer" });
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const latent = numbers([1, 16, 8, 12], 1);
  const conditions = { shape: latent.shape, references: [numbers([1, 16, 6, 6], 2)], embeds: { positive: numbers([1, 9, config.textWidth], 3), negative: undefined }, config };
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
  const plans: string[] = [];
  const emit = (event: ProgressEvent) => void (event.kind === "plan" && plans.push(...event.lines));
  const run = { file, config, compute: "f32", loras: [], sigmas: [0.75], lengths: tokenLengths(conditions) } as const;
  const velocityWith = (vram: number | undefined) =>
    withTransformer(run, { engine, emit, signal: new AbortController().signal, vram }, (opened) => velocityOf(opened, conditions)(latent.data, 0.75, "positive"));
  const [whole, streamed] = [await velocityWith(undefined), await velocityWith(400e6)];
  await engine.dispose();
  expect(plans).toEqual([expect.stringMatching(/^transformer: 3\d\d MiB of weights, 0 of 2 layers stay open, the others 1 at a time/)]);
  expect(scaledError(streamed, whole)).toBeLessThanOrEqual(SAME);
});
