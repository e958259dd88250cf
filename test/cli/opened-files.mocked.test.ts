// How often one edit reads the header of a model file, counted where Node opens files.
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { PassThrough } from "node:stream";
import { beforeEach, expect, test, vi } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { main } from "../../src/cli/main.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { type RawTensor, rawTensors, writeRaw } from "../support/quantised.js";

const headers = vi.hoisted(() => new Map<string, number>());

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  // Whoever reads from the first byte on reads the header; ranges of weights lie behind it.
  const counted = (path: string, handle: FileHandle): FileHandle => {
    let isCounted = false;
    const read = handle.read.bind(handle) as (...args: unknown[]) => Promise<unknown>;
    return Object.assign(handle, {
      read(...args: unknown[]) {
        if (args[3] === 0 && !isCounted) headers.set(path, (headers.get(path) ?? 0) + 1);
        if (args[3] === 0) isCounted = true;
        return read(...args);
      },
    });
  };
  const open: typeof real.open = async (path, ...rest) => {
    const handle = await real.open(path, ...rest);
    return String(path).endsWith(".safetensors") ? counted(String(path), handle) : handle;
  };
  return { ...real, default: { ...real, open }, open };
});

const folder = temporaryFolder();
beforeEach(() => headers.clear());

async function edit(args: readonly string[]): Promise<void> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end();
  let text = "";
  stderr.on("data", (part: Buffer) => (text += part.toString()));
  stdout.resume();
  const env = { PATH: process.env["PATH"], HOME: folder.at("home"), XDG_CACHE_HOME: folder.at("cache") };
  const code = await main(args, { stdin, stdout, stderr, env, cwd: folder.at(".") });
  expect(code, text).toBe(0);
}

const counts = () => Object.fromEntries([...headers].map(([path, count]) => [basename(path), count]));

const PROMPT = ["-p", "make it black and white", "--megapixels", "0.02", "--threads", "1"];

test("one edit reads the header of every model file once", async () => {
  await edit(["run", fixture("images/cat.jpg"), "--model", "tiny", ...PROMPT, "-o", "one.png"]);
  expect(counts()).toEqual({
    "tiny_vae.safetensors": 1,
    "tiny_text_encoder_fp8_scaled.safetensors": 1,
    "tiny_edit_fp8_e4m3fn.safetensors": 1,
  });
});

test("so does one whose three parts lie in one file", async () => {
  const named = {
    "model.diffusion_model.": "edit_fp8_e4m3fn",
    "vae.": "vae",
    "text_encoders.q.": "text_encoder_fp8_scaled",
  };
  const tensors: Record<string, RawTensor> = {};
  for (const [prefix, name] of Object.entries(named)) {
    const part = await rawTensors(await readSafetensors(fixture(`tiny-model/tiny_${name}.safetensors`)));
    for (const [key, each] of Object.entries(part)) tensors[prefix + key] = each;
  }
  const whole = await writeRaw(folder.at("whole.safetensors"), tensors);
  headers.clear();
  await edit(["run", fixture("images/cat.jpg"), "--checkpoint", whole, ...PROMPT, "--steps", "1", "-o", "whole.png"]);
  expect(counts()).toEqual({ "whole.safetensors": 1 });
});

test("so do several edits of one call, LoRAs included", async () => {
  const lora = fixture("tiny/loras/published.safetensors");
  const files = ["vae", "text-encoder", "transformer"].flatMap((role) => [
    `--${role}`,
    fixture(`tiny/${role}.safetensors`),
  ]);
  const twice = ["--seeds", "1,2", "--lora", `${lora}:0.5`, "--steps", "1", "--no-cache"];
  await edit(["run", fixture("images/cat.jpg"), ...files, ...PROMPT, ...twice, "-o", "two.png"]);
  expect(counts()).toEqual({
    "vae.safetensors": 1,
    "text-encoder.safetensors": 1,
    "transformer.safetensors": 1,
    "published.safetensors": 1,
  });
});
