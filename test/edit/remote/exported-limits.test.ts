// What exported models do of each parameter of an edit: the list is complete, and what they cannot do is refused by name.
import { describe, expect, test } from "vitest";
import { EDIT_PARAMETERS, STAGE_PARAMETERS } from "../../../src/edit/parameters/table.js";
import { type ExportedFacts, factsText, readFacts } from "../../../src/edit/remote/exported-facts.js";
import { DONE_HERE, EXPORTED_PARAMETERS, refuseUnable } from "../../../src/edit/remote/exported-limits.js";
import { STAGES, type StageName } from "../../../src/stages/stage.js";

/** Facts of an export without guidance, for two pictures, with a LoRA. */
const FACTS = {
  ...{
    qedit: "0.1.0",
    family: "qwen-image-edit",
    model: "tiny",
    images: 2,
    guidance: false,
    device: "cpu",
    runtime: "onnxruntime 1.29.0",
  },
  weights: {
    vae: { file: "vae.safetensors", identity: "a".repeat(64) },
    text_encoder: { file: "text.safetensors", identity: "b".repeat(64) },
    transformer: { file: "transformer.safetensors", identity: "c".repeat(64), sha256: "d".repeat(64) },
    "lora.0": { file: "Lora – 4 steps.safetensors", identity: "e".repeat(64), strength: 0.7 },
  },
  compute: { vae: "f32", text_encoder: "f32", transformer: "bf16" },
  sampling: {
    ...{ sampler: "euler", scheduler: "simple", shift: 3, steps: 4, cfg_norm: 1 },
    ...{ reference_method: "index", own_reference_method: "index" },
  },
  patches: { patch: 14, temporal: 2, merge: 2 },
  ...{ cell: 8, latent_channels: 2, token_side: 2 },
  statistics: { mean: [0.1, -0.5], std: [1.5, 2] },
} as const;

const facts = readFacts(factsText(FACTS as unknown as Parameters<typeof factsText>[0])) as ExportedFacts;

const SETTINGS = {
  ...{
    prompt: "x",
    allowEmptyPrompt: false,
    seed: 1n,
    steps: 4,
    cfg: 1,
    sampler: "euler",
    scheduler: "simple",
    shift: 3,
  },
  ...{ denoise: 1, cfgNorm: 1, dtype: "auto", vaeDtype: "auto", textDtype: "auto", keepSize: false, noMetadata: false },
  lora: ["x.safetensors:0.7"],
};

function refusal(
  changed: Readonly<Record<string, unknown>>,
  {
    stages = STAGES,
    count = 1,
    isWhole = false,
  }: { stages?: readonly StageName[]; count?: number; isWhole?: boolean } = {},
): string | undefined {
  try {
    refuseUnable(stages, { settings: { ...SETTINGS, ...changed }, facts, count, isWhole }, "grpc://there:8001");
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

test("every parameter of an edit is decided on, and no other", () => {
  const decided = new Set([...Object.values(EXPORTED_PARAMETERS).flatMap(Object.keys), ...Object.keys(DONE_HERE)]);
  expect([...decided].sort()).toEqual(Object.keys(EDIT_PARAMETERS).sort());
  for (const stage of STAGES)
    expect(Object.keys(EXPORTED_PARAMETERS[stage]).sort()).toEqual(Object.keys(STAGE_PARAMETERS[stage]).sort());
});

test.each([
  {},
  { steps: 40, shift: 1.5, seed: 2n ** 64n - 1n },
  { scheduler: "karras" },
  { scheduler: "beta" },
  { denoise: 0.4 },
  { dtype: "bfloat16" },
  { size: { width: 64, height: 64 } },
  { referenceMethod: "index" },
  { keepSize: true, noMetadata: true },
  { mask: "m.png", cropMask: true, pasteBack: true, feather: 3, keepExif: true, maskMargin: 7 },
])("%o works", (changed) => {
  expect(refusal(changed)).toBeUndefined();
});

describe("refused:", () => {
  test.each<[Readonly<Record<string, unknown>>, RegExp]>([
    [
      { sampler: "lcm" },
      /sampler.* on the server at grpc:\/\/there:8001: its exported model samples with euler alone/s,
    ],
    [{ lcmNoise: 1 }, /samples with euler alone/],
    [{ stepCache: 0.05 }, /step_cache.*computes every step whole/],
    [{ lora: [] }, /was exported with Lora – 4 steps\.safetensors:0\.7/],
    [{ lora: ["x.safetensors"] }, /was exported with Lora/],
    [{ lora: ["x.safetensors:0.7", "y.safetensors:0.7"] }, /was exported with Lora/],
    [{ cfg: 2.5 }, /has no guidance/],
    [{ cfgNorm: "none" }, /was exported with 1/],
    [{ cfgNorm: 0.5 }, /was exported with 1/],
    [{ referenceMethod: "uxo" }, /was exported with index/],
    [{ referenceMethod: "index_timestep_zero" }, /was exported with index/],
    [{ dtype: "float32" }, /computes in bf16/],
    [{ vaeDtype: "float16" }, /computes in f32/],
    [{ textDtype: "bfloat16" }, /computes in f32/],
    [{ tile: 128 }, /works on the whole picture/],
    [{ match: "comfyui" }, /takes pictures in bytes/],
  ])("%o", (changed, message) => {
    expect(refusal(changed)).toMatch(message);
  });

  test("more pictures than it was exported for, where a stage sees all of them", () => {
    expect(refusal({}, { count: 3 })).toMatch(/Cannot edit 3 pictures .*exported for up to 2/);
    expect(refusal({}, { count: 3, stages: ["encode-image", "decode"] })).toBeUndefined();
  });

  test("in a whole edit, what begins with picture 1", () => {
    expect(refusal({ denoise: 0.4 }, { isWhole: true })).toMatch(/begins with noise alone/);
  });

  test("a parameter of a stage that runs elsewhere is of no account", () => {
    expect(
      refusal({ sampler: "lcm", cfg: 2.5 }, { stages: ["encode-image", "encode-prompt", "decode"] }),
    ).toBeUndefined();
    expect(refusal({ match: "comfyui" }, { stages: ["encode-prompt"] })).toBeUndefined();
  });
});

describe("facts", () => {
  test.each([
    ["cell", { cell: 7 }],
    ["cell", { cell: 48 }],
    ["token_side", { token_side: 1 }],
    ["image_channels", { image_channels: 4 }],
    ["image_channels", { family: "qwen-image-2.1", token_side: 1, cell: 16 }],
    [
      "patches",
      {
        family: "qwen-image-2.1",
        token_side: 1,
        cell: 16,
        image_channels: 4,
        patches: { patch: 7, temporal: 2, merge: 3 },
      },
    ],
  ])("of numbers that no model of their family has are not used: %s", (name, changed) => {
    const text = factsText({ ...FACTS, ...changed } as unknown as Parameters<typeof factsText>[0]);
    expect(readFacts(text)).toEqual({ fault: expect.stringContaining(`"${name}"`) });
  });

  test("are read as they were written, in ASCII", () => {
    const text = factsText(FACTS as unknown as Parameters<typeof factsText>[0]);
    expect(text).toMatch(/^[\x20-\x7e]+$/);
    expect(readFacts(text)).toEqual({ format: "qedit-exported 1", ...FACTS });
  });

  test.each<[string, (facts: Record<string, unknown>) => unknown]>([
    ["another format", (each) => ({ ...each, format: "qedit-exported 2" })],
    ["another family", (each) => ({ ...each, family: "flux" })],
    ["a field that is not known", (each) => ({ ...each, more: 1 })],
    ["a missing field", ({ cell: _, ...rest }) => rest],
    ["an identity that is no hash", (each) => ({ ...each, weights: { vae: { file: "v", identity: "x" } } })],
    ["a name with folders", (each) => ({ ...each, weights: { vae: { file: "../v", identity: "a".repeat(64) } } })],
    [
      "a name with control characters",
      (each) => ({ ...each, weights: { vae: { file: "\u001b[31m", identity: "a".repeat(64) } } }),
    ],
    ["a role that is none", (each) => ({ ...each, weights: { clip: { file: "v", identity: "a".repeat(64) } } })],
    ["statistics of other channels", (each) => ({ ...each, latent_channels: 16 })],
    ["a deviation of 0", (each) => ({ ...each, statistics: { mean: [0, 0], std: [0, 1] } })],
    ["a cell of 0", (each) => ({ ...each, cell: 0 })],
    ["a huge patch", (each) => ({ ...each, patches: { patch: 1e9, temporal: 2, merge: 2 } })],
    ["another sampler", (each) => ({ ...each, sampling: { ...FACTS.sampling, sampler: "heun" } })],
    ["what is too long", (each) => ({ ...each, model: "x".repeat(20_000) })],
    ["a list", () => []],
    ["null", () => null],
  ])("are refused: %s", (_, change) => {
    expect(readFacts(JSON.stringify(change({ ...(facts as object) })))).toEqual({ fault: expect.any(String) });
  });

  test("are refused: no JSON, and JSON that is too deep", () => {
    for (const text of ["", "{", `${"[".repeat(100)}${"]".repeat(100)}`])
      expect(readFacts(text)).toHaveProperty("fault");
  });
});
