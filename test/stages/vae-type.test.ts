// The VAE in 16 bits, and its way back to float32. The engine computes on the CPU, where ONNX Runtime rounds to float16 between nodes that it
// has no float16 kernel for, and says that it is a GPU: so the stages choose as they do on one.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import { parseDevice } from "../../src/engine/providers.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine } from "../../src/engine/sessions/engine.js";
import type { Image } from "../../src/image/image.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { type DecodeSettings, decode } from "../../src/stages/decode.js";
import { encodeImage } from "../../src/stages/encode-image.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { readPictures } from "../../src/stages/pictures.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { float32 } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";

/** Rounding of 2^-11 at some forty layers, whose errors add up like a walk: 40^0.5 · 2^-11 = 3e-3, and as much again for sums. */
const FLOAT16_TOLERANCE = 6e-3;
/** Beyond float16, whose largest number is 65504. */
const BEYOND_FLOAT16 = 1e5;

const fixture = (path: string) => fileURLToPath(new URL(`../../fixtures/${path}`, import.meta.url));
const vae = await openModel(fixture("tiny/vae.safetensors"), "vae");

async function likeCuda(): Promise<Engine> {
  return { ...(await directEngine(parseDevice("cpu", 1))), device: parseDevice("cuda", 1) };
}

function samples(scale: number): Artifact {
  const latent = float32(
    [1, 16, 6, 4],
    randn(1, 16 * 6 * 4).map((value) => value * scale),
  );
  return {
    kind: "samples",
    tensors: { latent_tensor: latent },
    info: { settings: {}, sizes: {}, inputs: {}, weights: {}, names: {} } as unknown as Artifact["info"],
  };
}

async function decoded(scale: number, vaeDtype: string): Promise<{ image: Image; type: unknown; notes: string[] }> {
  const engine = await likeCuda();
  const notes: string[] = [];
  const emit = (event: ProgressEvent) => void (event.kind === "note" && notes.push(event.text));
  try {
    const settings: DecodeSettings = {
      vaeDtype,
      tile: undefined,
      keepSize: false,
      match: undefined,
      noMetadata: false,
    };
    const { image, info } = await decode.run(
      { inputs: { samples: samples(scale) }, models: { vae }, settings },
      { engine, emit, signal: new AbortController().signal },
    );
    return { image, type: (info.settings["decode"] as { compute_type: string }).compute_type, notes };
  } finally {
    await engine.dispose();
  }
}

test("decode on CUDA is in float16, within its rounding of float32", async () => {
  const [half, full] = [await decoded(1, "auto"), await decoded(1, "float32")];
  expect([half.type, full.type, half.notes, full.notes]).toEqual(["f16", "f32", [], []]);
  expect(scaledError(half.image.data, full.image.data)).toBeLessThan(FLOAT16_TOLERANCE);
  expect(half.image.data).not.toEqual(full.image.data);
});

test("decode computes once more in float32 what overflows float16, and says so", async () => {
  const [half, full] = [await decoded(BEYOND_FLOAT16, "auto"), await decoded(BEYOND_FLOAT16, "float32")];
  expect(half.type).toBe("f32");
  expect(half.notes).toEqual([expect.stringMatching(/broken in float16 .*: once more in float32$/)]);
  expect(half.image.data).toEqual(full.image.data);
});

test("encode-image on CUDA is in float16, within its rounding of float32", async () => {
  const engine = await likeCuda();
  try {
    const pictures = await readPictures([join(fixture("images"), "cat.jpg")]);
    const run = (vaeDtype: string) =>
      encodeImage.run(
        {
          inputs: { pictures },
          models: { vae },
          settings: { vaeDtype, tile: undefined, size: undefined, megapixels: 0.02, match: undefined },
        },
        { engine, emit: () => {}, signal: new AbortController().signal },
      );
    const [half, full] = [await run("auto"), await run("float32")];
    expect((half.info.settings["encode_image"] as { compute_type: string }).compute_type).toBe("f16");
    expect(
      scaledError(half.tensors["latent"]!.data as Float32Array, full.tensors["latent"]!.data as Float32Array),
    ).toBeLessThan(FLOAT16_TOLERANCE);
  } finally {
    await engine.dispose();
  }
});
