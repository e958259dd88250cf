// An export of full size, over sparse files with the headers of the published ones: how long it takes, and that no byte of weights is copied.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { type PublishedName, publishedTensors } from "../../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../../fixtures/headers/sparse.js";
import { expectRefusal, qedit, workFolder } from "../../cli/qedit.js";
import { processorTime } from "../../support/processor-time.js";

const folder = workFolder();
const FILES = {
  "--vae": "qwen_image_vae",
  "--text-encoder": "qwen_2.5_vl_7b_fp8_scaled",
  "--transformer": "qwen_image_edit_2509_fp8_e4m3fn",
  "--lora": "lightning_lora_bf16",
} as const satisfies Record<string, PublishedName>;
const store = (name: string) => folder.at(join("store", `${name}.safetensors`));

/** Of processor time, for all models, two samplers among them, and the first use of what they are built with; on a quiet machine 3. */
const MOST_SECONDS = 8;
/** Bytes on the disk beside weights: graphs, the vocabulary, the patches of a warm-up. */
const MOST_BYTES = 60e6;

beforeAll(async () => {
  mkdirSync(folder.at("store"));
  for (const name of Object.values(FILES)) {
    // An alpha of 0, as in a hole, is refused.
    const tensors = publishedTensors(name).filter((tensor) => !tensor.name.endsWith(".alpha"));
    await sparseCheckpoint(store(name), tensors);
  }
});

test("the published model is exported in seconds, for a GPU, and shares every byte of its weights", async () => {
  const files = Object.entries(FILES).flatMap(([flag, name]) => [flag, store(name)]);
  const elapsed = processorTime();
  const args = ["export", "triton", "repository", ...files, "--gpus", "0", "--cfg", "--json"];
  const ended = await qedit(args, { cwd: folder.path });
  const seconds = elapsed() / 1000;
  expect(ended.code, ended.stderr).toBe(0);
  expect(seconds).toBeLessThan(MOST_SECONDS);
  const { linked, copied } = JSON.parse(ended.stdout) as { linked: number; copied: number };
  expect([copied, linked > 29e9]).toEqual([0, true]);
  const names = readdirSync(folder.at("repository"), { recursive: true, encoding: "utf8" });
  const weights = names
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => statSync(folder.at(join("repository", name))));
  // The VAE's two networks, the text encoder, and transformer and LoRA of both samplers.
  expect(weights.length).toBe(7);
  expect(weights.every(({ nlink }) => nlink > 1)).toBe(true);
  const disk = execFileSync("du", ["-s", "--block-size=1", folder.path], { encoding: "utf8" });
  expect(Number.parseInt(disk, 10)).toBeLessThan(MOST_BYTES);
});

test("a card that does not hold all weights at once is refused, since every model stays open", async () => {
  const { "--lora": _, ...needed } = FILES;
  const files = Object.entries(needed).flatMap(([flag, name]) => [flag, store(name)]);
  const args = ["export", "triton", "small", ...files, "--gpus", "0", "--vram", "24G", "--images", "1"];
  const ended = await qedit(args, { cwd: folder.path });
  expectRefusal(ended, { code: 4, message: /for 24\.0 GiB: the models need 26\.9 GiB/, hint: /qedit serve/ });
  expect(existsSync(folder.at("small"))).toBe(false);
});
