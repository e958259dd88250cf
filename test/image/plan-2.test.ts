// Sizes of models whose vision tower sees the references, in multiples of 32 pixels: Qwen-Image-2.1.
import { describe, expect, test } from "vitest";
import { describePlan } from "../../src/image/resize/describe-plan.js";
import { type PlanOptions, planSizes } from "../../src/image/resize/size-plan.js";

const photo = { name: "photo.jpg", width: 4032, height: 3024 };
const wide = { name: "wide.png", width: 1920, height: 1080 };
const upright = { name: "upright.webp", width: 240, height: 427 };

const RULES = { multiple: 32, tokenCells: 1, mostStretch: 0.02, seesReferences: true };
const PATCHES = { patch: 16, temporal: 2, merge: 2 };
const plan = (sources: Parameters<typeof planSizes>[0], options: PlanOptions = {}) =>
  planSizes(sources, { cell: 16, patches: PATCHES, rules: RULES, ...options });

describe("the default plan", () => {
  test("gives the vision tower the very route of the reference, and the target that of the first one", () => {
    const { target, images } = plan([wide, photo, upright]);
    expect(images[0]!.reference).toBe(target);
    expect(target).toMatchObject({
      size: { width: 1376, height: 768 },
      latent: { width: 86, height: 48 },
      tokens: 86 * 48,
    });
    for (const { reference, vision } of images) {
      expect(vision.size).toEqual(reference.size);
      expect(vision.steps).toEqual(reference.steps);
      expect(vision.tokens * 4).toBe(reference.tokens);
    }
  });

  test("every token grid is even, so that all grids have their centre in the same place", () => {
    for (const megapixels of [0.25, 1, 4]) {
      const { target, images } = plan([upright, photo, wide], { megapixels });
      for (const { latent } of [target, ...images.map(({ reference }) => reference)]) {
        expect([latent.width % 2, latent.height % 2]).toEqual([0, 0]);
      }
    }
  });

  test("never crops at a megapixel and at four: the result laid over the picture lies right", () => {
    for (let width = 400; width < 5000; width += 197) {
      for (let height = 300; height < 4000; height += 179) {
        if (Math.max(width / height, height / width) > 3) continue;
        for (const megapixels of [1, 4])
          expect(plan([{ name: "", width, height }], { megapixels }).target.box).toEqual({ x: 0, y: 0, width, height });
      }
    }
  });

  test("takes sizes up to 2048 x 2048 and more, in multiples of 32 alone", () => {
    expect(plan([], { size: { width: 2048, height: 2048 } }).target.latent).toEqual({ width: 128, height: 128 });
    expect(() => plan([photo], { size: { width: 1200, height: 880 } })).toThrow(/sides must be multiples of 32/);
    expect(plan([]).target).toMatchObject({ size: { width: 1024, height: 1024 }, steps: [], tokens: 4096 });
  });

  test("shows one size for both, and a region's reference in the vision tower too", () => {
    expect(describePlan(plan([wide]))).toEqual([
      "wide.png 1920x1080: reference 1376x768 (stretched 0.8 %), vision 1376x768 (1032 tokens), latent 86x48 (4128 tokens) → output 1376x768",
    ]);
    const region = { x: 100, y: 50, width: 800, height: 600 };
    const [image] = plan([wide], { region }).images;
    expect(image!.vision.steps).toEqual(image!.reference.steps);
    expect(image!.vision.steps[0]).toEqual({ kind: "crop", box: region });
  });
});

describe("as TextEncodeQwenImage21", () => {
  test.each([
    [4032, 3024, 1, 1184, 896],
    [1920, 1080, 1, 1376, 768],
    [240, 427, 1, 768, 1376],
    [1000, 1000, 4, 2048, 2048],
    // round half to even: 1024 · sqrt(64) / 32 = 256, and 1024 / 8 / 32 = 4
    [6400, 100, 1, 8192, 128],
  ])("%ix%i at %i megapixels is one stretching resize to %ix%i", (width, height, megapixels, w, h) => {
    const { target, images } = plan([{ name: "", width, height }], { mode: "comfyui", megapixels });
    const size = { width: w, height: h };
    expect(target).toBe(images[0]!.reference);
    expect(target).toMatchObject({
      size,
      steps: [{ kind: "resize", size, method: "lanczos" }],
      box: { x: 0, y: 0, width, height },
    });
    expect(images[0]!.vision).toMatchObject({ size, steps: target.steps });
  });

  test.each([
    [{ mode: "comfyui-kontext" }, /FluxKontextImageScale is of Qwen-Image-Edit's template/],
    [{ mode: "comfyui", resolutionSteps: 16 }, /Cannot use .*resolution_steps.*sides are multiples of 32/],
    [{ mode: "comfyui", size: { width: 1024, height: 1024 } }, /Cannot plan for a size in mode comfyui/],
  ] as const)("what its node has not is refused: %j", (options, message) => {
    expect(() => plan([photo], options)).toThrow(message);
  });
});
