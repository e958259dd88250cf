// Artifacts from elsewhere: what stages could not work with is known before.
import { expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import { recordFault, shapeFault } from "../../src/server/artifact-limits.js";
import { DEFAULT_LIMITS } from "../../src/server/limits.js";
import { float32 } from "../../src/std/tensor.js";

const box = { x: 0, y: 4, width: 32, height: 16 };
const images = [{ source: { width: 32, height: 24 } }];
const resize = { kind: "resize", size: { width: 48, height: 24 }, method: "area" };
const samples = (sizes: Artifact["info"]["sizes"], settings = {}): Artifact => ({
  kind: "samples",
  tensors: { latent_tensor: float32([1, 2, 1, 1], new Float32Array(2)) },
  info: { settings, sizes, inputs: {}, weights: {} },
});
const fault = (target: object) => recordFault(samples({ images, target }), DEFAULT_LIMITS);

test("the record of a stage, and no record, are taken", () => {
  expect(recordFault(samples({}), DEFAULT_LIMITS)).toBeUndefined();
  expect(fault({ box, steps: [{ kind: "crop", box }, resize] })).toBeUndefined();
});

test.each([
  ["no list", { box, steps: "crop" }],
  ["too many", { box, steps: Array(9).fill(resize) }],
  ["a box outside", { box, steps: [{ kind: "crop", box: { ...box, y: 9 } }] }],
  [
    "a box outside what is left",
    {
      box,
      steps: [
        { kind: "crop", box },
        { kind: "crop", box },
      ],
    },
  ],
  ["a picture without end", { box, steps: [{ ...resize, size: { width: 1e9, height: 1e9 } }] }],
  ["an unknown method", { box, steps: [{ ...resize, method: "magic" }] }],
  ["an unknown kind", { box, steps: [{ kind: "turn" }] }],
])("steps that are %s are refused", (_, target) => {
  expect(fault(target)).toBe("its sizes have a target whose steps cannot be done to picture 1");
});

test("a box outside picture 1, and a picture 1 that is too large, are refused", () => {
  expect(fault({ box: { ...box, width: 33 } })).toMatch(/without a box in picture 1/);
  const large = { images: [{ source: { width: 1e6, height: 1e6 } }] };
  expect(recordFault(samples(large), DEFAULT_LIMITS)).toMatch(/without a source of up to 134217728 pixels/);
});

test("tensors are held against the largest result", () => {
  expect(shapeFault([1, 16, 250, 250], DEFAULT_LIMITS)).toBeUndefined();
  expect(shapeFault([1, 16, 300, 300], DEFAULT_LIMITS)).toMatch(/5\.49 megapixels, at most 4/);
  expect(shapeFault([1, 16_385, 8], DEFAULT_LIMITS)).toMatch(/16385 tokens/);
});
