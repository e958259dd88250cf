// Model files of the published widths with random weights, of which qedit makes whole edits: two blocks of the transformer in a form, two layers of the
// text encoder, the whole VAE.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { publishedTensors } from "../fixtures/headers/published.js";
import type { HeaderEntry } from "../src/checkpoint/safetensors/safetensors-writer.js";
import { FILES, firstLayers } from "./networks.js";
import { randomCheckpoint } from "./random-checkpoint.js";
import { randomGguf } from "./random-gguf.js";

/**
 * Forms of the transformer: how it is written, and settings beside it. "In place" opens it as the published one, whose weights would not fit widened;
 * "widened" takes a schedule of many evaluations.
 */
export const FORMS: Readonly<
  Record<string, { readonly write: (path: string) => Promise<unknown>; readonly settings: readonly string[] }>
> = {
  "fp8, widened": { write: (path) => randomCheckpoint(path, transformer("F8_E4M3")), settings: ["--steps", "8"] },
  "fp8, in place": { write: (path) => randomCheckpoint(path, transformer("F8_E4M3")), settings: ["--vram", "16G"] },
  "bf16, in place": { write: (path) => randomCheckpoint(path, transformer("BF16")), settings: ["--vram", "16G"] },
  Q8_0: { write: (path) => randomGguf(path, transformer("F32"), "Q8_0"), settings: [] },
  Q4_0: { write: (path) => randomGguf(path, transformer("F32"), "Q4_0"), settings: [] },
  Q4_K: { write: (path) => randomGguf(path, transformer("F32"), "Q4_K"), settings: [] },
};

function transformer(dtype: "F32" | "BF16" | "F8_E4M3"): HeaderEntry[] {
  return FILES["transformer-2"].tensors().map((tensor) => ({ ...tensor, dtype }));
}

/** Writes the files of an edit in a form, those of the text encoder and the VAE once; gives the options that name them, and the form's settings. */
export async function twoLayers(
  folder: string,
  form: string,
): Promise<{ readonly files: readonly string[]; readonly settings: readonly string[] }> {
  const known = FORMS[form];
  if (known === undefined) throw new Error(`Cannot measure "${form}": ${Object.keys(FORMS).join(", ")} are known`);
  const at = (name: string) => join(folder, name);
  const [vae, textEncoder] = [at("vae.safetensors"), at("text-encoder.safetensors")];
  if (!existsSync(vae)) {
    await randomCheckpoint(vae, FILES.vae.tensors());
    const layers = firstLayers(publishedTensors("qwen_2.5_vl_7b_fp8_scaled")).filter(
      ({ name }) => !/^lm_head\./.test(name),
    );
    await randomCheckpoint(textEncoder, layers, FILES["text-encoder-2"].metadata);
  }
  const path = at(`${form}.${form.startsWith("Q") ? "gguf" : "safetensors"}`);
  if (!existsSync(path)) await known.write(path);
  return { files: ["--transformer", path, "--vae", vae, "--text-encoder", textEncoder], settings: known.settings };
}

/** Writes a picture of side² pixels, a BMP file whose every pixel is another; gives its path. */
export async function photograph(path: string, side: number): Promise<string> {
  const file = Buffer.alloc(54 + 3 * side * side);
  file.write("BM");
  for (const [at, value] of [
    [2, file.length],
    [10, 54],
    [14, 40],
    [18, side],
    [22, side],
    [26, 1 | (24 << 16)],
  ] as const)
    file.writeUInt32LE(value, at);
  for (let at = 54; at < file.length; at += 1) file[at] = (at * 7919) >>> 5;
  await writeFile(path, file);
  return path;
}
