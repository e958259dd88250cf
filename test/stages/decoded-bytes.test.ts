// The decoder's bytes against its floats, quantised on the host: whole and on tiles, and what it says of a picture that is broken.
import { expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { toBytes } from "../../src/image/image.js";
import { quantised } from "../../src/models/vae-networks.js";
import { buildVaeDecoder } from "../../src/models/vaes.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { withVae } from "../../src/stages/networks/open-vae.js";
import { elementCount, float32, type Tensor } from "../../src/std/tensor.js";
import { evaluateOne } from "../graph/run.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";

const VAES = ["tiny/vae", "tiny/vae-fp32", "tiny/vae-other", "tiny-model/tiny_vae"].map((name) =>
  fixture(`${name}.safetensors`),
);
const QUANTIZATIONS = ["round", "truncate"] as const;
/** Tiles sum in another order, which moves what lies on the edge of two levels. */
const ONE_LEVEL = 1;

const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });

function latent(): Tensor<"float32"> {
  const shape = [1, 16, 40, 6];
  return float32(shape, randn(3n, elementCount(shape)));
}

async function decode(
  path: string,
  given: Tensor<"float32">,
  { quantization, tile }: { quantization: "round" | "truncate"; tile?: number },
) {
  const file = await openModel(path, "vae");
  const context = { engine, emit: () => {}, signal: new AbortController().signal };
  return withVae(
    "decoder to bytes",
    { run: { file, compute: "f32", tile, quantization }, pixels: [320, 48] },
    context,
    (vae) => vae(given),
  );
}

test.each(VAES.flatMap((path) => QUANTIZATIONS.map((quantization) => [path, quantization] as const)))(
  "%s gives the bytes of its floats: %s",
  async (path, quantization) => {
    const given = latent();
    await using floats = await openNetwork(await readSafetensors(path), {
      build: (graph, w) => buildVaeDecoder(graph, w),
      optimization: "full",
    });
    const image = (await floats.session.run({ latent: given }))["image"] as Tensor<"float32">;
    const [, , height, width] = image.shape as [number, number, number, number];
    const pixels = Float32Array.from(
      image.data,
      (_, at) => image.data[(at % 3) * height * width + Math.floor(at / 3)]!,
    );
    const found = await decode(path, given, { quantization });
    expect(found.shape).toEqual([1, height, width, 3]);
    expect(found.data).toEqual(toBytes({ width, height, data: pixels }, quantization).data);
  },
);

test.each(VAES)("%s gives on tiles the bytes of the whole picture", async (path) => {
  const [whole, tiled] = [
    await decode(path, latent(), { quantization: "round" }),
    await decode(path, latent(), { quantization: "round", tile: 64 }),
  ];
  expect(tiled.shape).toEqual(whole.shape);
  expect(Math.max(...tiled.data.map((level, at) => Math.abs(level - whole.data[at]!)))).toBeLessThanOrEqual(ONE_LEVEL);
});

test.each(QUANTIZATIONS)(
  "every number around the edges of levels becomes the byte that the host makes of it: %s",
  async (quantization) => {
    const edges = Array.from({ length: 511 }, (_, half) => Math.fround(half / 510)).flatMap((edge) => {
      const bits = new Uint32Array(Float32Array.of(edge).buffer)[0]!;
      return [...new Float32Array(Uint32Array.from([-2, -1, 0, 1, 2], (step) => Math.max(bits + step, 0)).buffer)].map(
        (each) => Math.min(each, 1),
      );
    });
    const data = Float32Array.from([...edges, Math.fround((0.5 - 2 ** -25) / 255)]);
    const found = await evaluateOne({ x: float32([data.length], data) }, ({ x }) => quantised(x!, quantization));
    expect(found.data).toEqual(toBytes({ width: data.length, height: 1, data }, quantization).data);
  },
);

test.each([
  ["NaN", NaN],
  ["infinity", Infinity],
])("a latent of %s is refused, on the whole and on tiles", async (_, value) => {
  const given = latent();
  given.data[17] = value;
  for (const tile of [undefined, 64]) {
    const wanted = { code: "QEDIT_E_BAD_OUTPUT", message: "Computed the picture, but it holds NaN or infinity" };
    await expect(decode(VAES[0]!, given, { quantization: "round", ...(tile && { tile }) })).rejects.toMatchObject(
      wanted,
    );
  }
});
