// An edit for the clients of docs/triton.md, the tensors that qedit makes of it, and how near those of a client must come.
import { join } from "node:path";
import { expect } from "vitest";
import { clientInputs, clientNumbers } from "../../src/edit/remote/client-inputs.js";
import { conventionsOf } from "../../src/edit/remote/exported-families.js";
import { clientSettings } from "../../src/export/triton/client-settings.js";
import { type ModelHandle, openModel } from "../../src/stages/networks/model-handle.js";
import { readPictures } from "../../src/stages/pictures.js";
import { samplingOf } from "../../src/stages/sample.js";
import type { Tensor, Tensors } from "../../src/std/tensor.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { tinyEdit } from "../support/edits.js";
import { fixture } from "../support/golden.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { ROOT } from "./pages.js";

/** The folder of the clients. */
export const EXAMPLES = join(ROOT, "docs/examples");
/** What replace() and tokenizers might take for more than it is. */
export const PROMPT = "make it $& winter\\n {prompt} <|image_pad|> 日本";
export const NUMBERS = { seed: 7, steps: 3, megapixels: 0.05, cfg: 2.5 };
export const PATHS = ["images/cat.jpg", "images/rocket.jpg"].map(fixture);

/** A model that clients make inputs for. */
type Edited = Readonly<Record<"vae" | "textEncoder" | "transformer", ModelHandle>>;

/** The tiny models of Qwen-Image-2.1. */
export async function smallFiles(folder: string): Promise<Edited> {
  return {
    vae: await openModel(fixture("tiny-2/vae.safetensors"), "vae"),
    textEncoder: await openModel(await tinyTextEncoder2({ folder }), "textEncoder"),
    transformer: await openModel(fixture("tiny-2/transformer.safetensors"), "transformer"),
  };
}

/** The text of qedit.json, and the tensors of the edit with guidance: of the embedded model unless another one is given. */
export async function wantedInputs({
  models: other,
  paths = PATHS,
}: {
  readonly models?: Edited;
  readonly paths?: readonly string[];
} = {}): Promise<{ readonly settings: string; readonly wanted: Tensors }> {
  const { resolved } = await tinyEdit();
  const { settings: values } = resolved;
  const numbers = clientNumbers(other ?? resolved.models);
  const text = clientSettings({
    ...{ version: "0", model: "tiny", weights: {}, device: "cpu", megapixels: 1, numbers, models: [] },
    compute: { vae: "float32", text_encoder: "float32", transformer: "float32" },
    sampling: { sampler: "euler", scheduler: "simple", shift: 3, cfgNorm: 1, steps: 20, cfg: 2.5 },
    statistics: { mean: [], std: [] },
    ensembles: [{ name: "qedit_1_cfg", images: 1, hasCfg: true, inputs: [], outputs: [], steps: [] }],
  });
  const { seed, ...sampling } = NUMBERS;
  const wanted = clientInputs(
    {
      pictures: await readPictures(paths),
      ...{ prompt: PROMPT, negativePrompt: "blurry" },
      sizes: { megapixels: NUMBERS.megapixels, size: undefined, match: undefined },
      sampling: samplingOf({ ...values, ...sampling, seed: BigInt(seed) }),
    },
    numbers,
    await loadTokenizer(conventionsOf(numbers.family).vocabulary),
  );
  return { settings: text, wanted };
}

/** A tensor that a client made. */
export interface Made {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** Holds the tensors that a client made to those of qedit; pixels may differ by `pixels` of 255 on average, and noise may be the client's own. */
export function expectInputs(
  made: Readonly<Record<string, Made>>,
  right: Tensors,
  { pixels, noise }: { readonly pixels: number; readonly noise: "own" | "of the seed" },
): void {
  expect(Object.keys(made).sort()).toEqual(Object.keys(right).sort());
  for (const [name, { shape, data }] of Object.entries<Tensor>(right)) {
    const found = made[name]!;
    expect([name, ...found.shape]).toEqual([name, ...shape]);
    const numbers = Array.from(found.data, Number);
    const exact = Array.from(data, Number);
    if (name === "noise" && noise === "own") {
      const deviation = Math.sqrt(numbers.reduce((sum, each) => sum + each ** 2, 0) / numbers.length);
      expect(deviation).toBeCloseTo(1, 1);
      continue;
    }
    const mean = exact.reduce((sum, each, index) => sum + Math.abs(each - numbers[index]!), 0) / exact.length;
    const most =
      name.startsWith("image_") && name !== "image_grid_thw" ? pixels : name === "pixel_values" ? pixels / 60 : 1e-6;
    expect(mean, name).toBeLessThanOrEqual(most);
  }
}
