// The VAE of Qwen-Image-2.1 at its published widths, random weights, against diffusers in PyTorch: QEDIT_BENCH_PYTHON names a Python with both.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../src/models/vaes.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

/** float32 sums in another order, over up to 1152 · 9 products and some 50 layers. */
const SAME = 2e-5;

const run = promisify(execFile);
const python = process.env["QEDIT_BENCH_PYTHON"] ?? "python3";
const reason = await run(python, ["-c", "from diffusers import AutoencoderKLQwenImage21"]).then(
  () => undefined,
  () => `${python} has no diffusers 0.42: QEDIT_BENCH_PYTHON names one that has`,
);

test("at the published widths encoder and decoder give what PyTorch gives", { timeout: 600_000 }, async (context) => {
  if (reason !== undefined) return context.skip(reason);
  const folder = await mkdtemp(join(tmpdir(), "qedit-vae-2-"));
  try {
    await run(python, [fixture("oracle/qwen_image_2/vae.py"), folder], {
      env: { ...process.env, OMP_NUM_THREADS: "1" },
    });
    const golden = await readSafetensors(join(folder, "golden.safetensors"));
    const value = async (name: string): Promise<Tensor<"float32">> => {
      const stored = golden.tensors.get(`64x96.${name}`)!;
      return float32(stored.shape, await readTensor(stored));
    };
    const unit = ({ shape, data }: Tensor<"float32">) =>
      float32(
        shape,
        data.map((each) => (each + 1) / 2),
      );
    const checkpoint = await readSafetensors(join(folder, "vae-full.safetensors"));
    const halves = [
      {
        build: buildVaeEncoder,
        input: { image: unit(await value("pixels")) },
        output: "latent",
        wanted: await value("mean"),
      },
      {
        build: buildVaeDecoder,
        input: { latent: await value("latent") },
        output: "image",
        wanted: unit(await value("image")),
      },
    ];
    for (const { build, input, output, wanted } of halves) {
      await using network = await openNetwork(checkpoint, {
        build: (graph, w) => build(graph, w),
        optimization: "full",
      });
      const result = (await network.session.run(input))[output]!;
      expect(result.shape).toEqual(wanted.shape);
      const error = scaledError(result.data as Float32Array, wanted.data);
      console.log(`VAE of Qwen-Image-2.1 at its published widths, ${output}: ${error.toExponential(1)}`);
      expect(error).toBeLessThanOrEqual(SAME);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
