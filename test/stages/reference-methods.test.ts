// Where references stand, by each method of ComfyUI's node, against what ComfyUI's own transformer computes.
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { REFERENCE_METHODS } from "../../src/models/qwen-image/reference-methods.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { fixture, readGolden } from "../support/golden.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => engine.dispose());

const golden = await readGolden("reference-methods");
const file = await openModel(fixture("tiny/transformer-fp32.safetensors"), "transformer");
const marked = await openModel(fixture("tiny/transformer-2511.safetensors"), "transformer");

const configOf = (referenceMethod: string | undefined, { checkpoint, config } = file) =>
  transformerConfig(numbersOf(checkpoint), config, { referenceMethod });

async function velocity(referenceMethod: string | undefined): Promise<Float32Array> {
  const config = configOf(referenceMethod);
  const latent = golden.get("latent");
  const conditions = {
    shape: latent.shape,
    references: [1, 2, 3].map((number) => golden.get(`reference_${number}`)),
    prompts: { positive: { embeds: golden.get("prompt_embeds") }, negative: undefined },
    network: qwenImage(config),
  };
  const sigma = golden.get("timestep").data[0]!;
  const { network } = conditions;
  const run = { file, network, compute: "f32", loras: [], sigmas: [sigma], conditions } as const;
  const context = { engine, emit: () => {}, signal: new AbortController().signal, vram: undefined };
  return withTransformer(run, context as never, (opened) =>
    velocityOf(opened, conditions)(latent.data, sigma, "positive"),
  );
}

test.each(REFERENCE_METHODS)("%s gives ComfyUI's velocity", async (method) => {
  const wanted = golden.get(`velocity.${method}`).data;
  expect(scaledError(await velocity(method), wanted)).toBeLessThanOrEqual(TOLERANCE.network);
});

test("a file without a marker is run as index, and the methods differ", async () => {
  expect(await velocity(undefined)).toEqual(await velocity("index"));
  expect(golden.get("velocity.uxo").data).toEqual(golden.get("velocity.offset").data);
  const velocities = ["index", "offset", "index_timestep_zero"].map((method) => golden.get(`velocity.${method}`).data);
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const)
    expect(scaledError(velocities[a]!, velocities[b]!)).toBeGreaterThan(100 * TOLERANCE.network);
});

test("the marker of a file counts until a method is given", () => {
  expect(configOf(undefined, marked).referencesAtZero).toBe(true);
  expect(configOf("index", marked).referencesAtZero).toBe(false);
});
