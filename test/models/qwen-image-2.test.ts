// The transformer of Qwen-Image-2.1 against diffusers' own class, in every stored form.
import { afterAll, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type ModelHandle, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { repackedTo } from "../support/gguf.js";
import { writeQuantised } from "../support/gguf-quantised.js";
import type { Golden } from "../support/golden.js";
import { type RawTensor, raw, rotatedAndRounded, writeRaw } from "../support/quantised.js";
import { CASES, conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const folder = temporaryFolder();
const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => engine.dispose());
const context = { engine, emit: () => {}, signal: new AbortController().signal };

async function velocity(model: { file: ModelHandle; golden: Golden }, name: string): Promise<Float32Array> {
  const conditions = conditionsOf(model, name);
  const [sigma] = model.golden.get(`${name}.timestep`).data as unknown as [number];
  const { network } = conditions;
  const run = { file: model.file, network, compute: "f32", loras: [], sigmas: [sigma], conditions } as const;
  const latent = model.golden.get(`${name}.latent`).data;
  return withTransformer(run, context, (opened) => velocityOf(opened, conditions)(latent, sigma, "positive"));
}

test.each(["transformer", "transformer-fused-bf16", "transformer-scaled-fp8"])(
  "%s gives the reference's velocity without references and with 1, 2, 3 and 10",
  async (name) => {
    const model = await tinyTransformer(name);
    for (const each of CASES) {
      const error = scaledError(await velocity(model, each), model.golden.get(`${each}.velocity`).data);
      expect(error, each).toBeLessThanOrEqual(TOLERANCE.network);
    }
  },
);

test("rotated INT8 weights give the velocity of the floats that they stand for", async () => {
  const { file, golden } = await tinyTransformer("transformer");
  const isRounded = (name: string) => /^transformer_blocks\..*(attn|img_mlp)\..*\.weight$/.test(name);
  const { rounded, meant } = await rotatedAndRounded(file.checkpoint, 16, isRounded);
  expect(Object.keys(rounded).length).toBeGreaterThan(Object.keys(meant).length);
  const opened = async (name: string, tensors: typeof rounded) => ({
    file: await openModel(await writeRaw(folder.at(name), tensors, file.checkpoint.metadata), "transformer"),
    golden,
  });
  const [int8, floats] = [await opened("int8.safetensors", rounded), await opened("floats.safetensors", meant)];
  for (const each of CASES) {
    const [found, wanted] = [await velocity(int8, each), await velocity(floats, each)];
    expect(scaledError(found, wanted), each).toBeLessThanOrEqual(TOLERANCE.network);
    expect(scaledError(wanted, golden.get(`${each}.velocity`).data), each).toBeLessThan(0.1);
  }
});

// The same with the floats that a checkpoint's stored tensors stand for.
async function inFloats(name: string, { tensors }: Checkpoint, metadata: Checkpoint["metadata"]): Promise<ModelHandle> {
  const written: Record<string, RawTensor> = {};
  for (const [key, stored] of tensors) written[key] = raw(stored.shape, await readTensor(stored), "F32");
  return openModel(await writeRaw(folder.at(name), written, metadata), "transformer");
}

test.each(["F16", "BF16", "Q8_0", "Q4_0"] as const)(
  "weights in %s give the velocity of the floats that they stand for",
  async (type) => {
    const { file, golden } = await tinyTransformer("transformer");
    const { tensors, metadata } = file.checkpoint;
    const stored = async () => {
      if (type === "Q8_0" || type === "Q4_0") {
        const path = await writeQuantised(folder.at(`${type}.gguf`), file.checkpoint, type);
        return repackedTo(folder.at(`${type}.safetensors`), await openCheckpoint(path));
      }
      const written: Record<string, RawTensor> = {};
      for (const [key, each] of tensors) written[key] = raw(each.shape, await readTensor(each), type);
      return readSafetensors(await writeRaw(folder.at(`${type}.safetensors`), written, metadata));
    };
    const checkpoint = await stored();
    const matrix = checkpoint.tensors.get("transformer_blocks.0.attn.to_q.weight")!;
    expect(matrix.dtype).toBe(type);
    const model = { file: { ...file, checkpoint }, golden };
    const floats = { file: await inFloats(`${type}-floats.safetensors`, checkpoint, metadata), golden };
    for (const each of CASES) {
      const [found, wanted] = [await velocity(model, each), await velocity(floats, each)];
      expect(scaledError(found, wanted), each).toBeLessThanOrEqual(TOLERANCE.network);
      expect(scaledError(wanted, golden.get(`${each}.velocity`).data), each).toBeLessThan(type === "Q4_0" ? 0.5 : 0.05);
    }
  },
);
