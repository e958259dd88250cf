import { expect, test } from "vitest";
import { resolveSampling } from "../../src/edit/resolve/sampling-defaults.js";
import { parseLora } from "../../src/stages/networks/loras.js";

const CHOICES = {
  sampler: "euler",
  scheduler: "simple",
  denoise: 1,
  shift: 3,
  cfgNorm: 1,
  seed: 0n,
  steps: undefined,
  cfg: undefined,
  lora: [],
};

test("without a LoRA the template's 20 steps and cfg 2.5 hold", () => {
  expect(resolveSampling(CHOICES)).toMatchObject({
    steps: 20,
    cfg: 2.5,
    sampler: "euler",
    scheduler: "simple",
    shift: 3,
    cfgNorm: 1,
    denoise: 1,
  });
});

test.each([
  ["loras/Qwen-Image-Lightning-4steps-V2.0.safetensors", 4],
  ["Qwen-Image-Edit-2509-Lightning-8steps-V1.0-bf16.safetensors:0.9", 8],
  ["my_lightning.safetensors", 4],
])("with %s it is %i steps at cfg 1", (lora, steps) => {
  expect(resolveSampling({ ...CHOICES, lora: [lora] })).toMatchObject({ steps, cfg: 1 });
});

test("another LoRA, even in a folder called Lightning, changes nothing", () => {
  expect(resolveSampling({ ...CHOICES, lora: ["Lightning/style.safetensors"] })).toMatchObject({ steps: 20, cfg: 2.5 });
});

test("what the user sets is kept", () => {
  expect(resolveSampling({ ...CHOICES, steps: 7, cfg: 3, lora: ["Lightning-4steps.safetensors"] })).toMatchObject({
    steps: 7,
    cfg: 3,
  });
});

test.each([
  ["a.safetensors", "a.safetensors", 1],
  ["a.safetensors:0.5", "a.safetensors", 0.5],
  ["a.safetensors:-1", "a.safetensors", -1],
  ["folder:x/a.safetensors", "folder:x/a.safetensors", 1],
  ["C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", 1],
  ["C:\\loras\\a.safetensors:.25", "C:\\loras\\a.safetensors", 0.25],
  ["of\ntwo lines.safetensors:2", "of\ntwo lines.safetensors", 2],
])("%s is the file %s at strength %f", (written, path, strength) => {
  expect(parseLora(written)).toEqual({ path, strength });
});

test.each(["a.safetensors:abc", "dir/a.safetensors:0,5", "a.SAFETENSORS:", "of\ntwo.safetensors:x"])(
  "%s has a wrong strength",
  (written) => {
    expect(() => parseLora(written)).toThrowError(/^Cannot use "[^]*" as the strength of a LoRA: a number is wanted$/);
  },
);
