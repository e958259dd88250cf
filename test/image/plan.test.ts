import { describe, expect, test } from "vitest";
import { describePlan } from "../../src/image/resize/describe-plan.js";
import { applySteps } from "../../src/image/resize/resize.js";
import { planSizes, type SizePlan } from "../../src/image/resize/size-plan.js";

const photo = { name: "photo.jpg", width: 4032, height: 3024 };
const wide = { name: "wide.png", width: 1920, height: 1080 };
const upright = { name: "upright.webp", width: 240, height: 427 };

describe("the default plan", () => {
  test("encodes the first picture's reference at exactly the output's size, by one resize", () => {
    const { target, images } = planSizes([wide, photo]);
    expect(images[0]?.reference).toEqual(target);
    expect(target).toMatchObject({
      size: { width: 1360, height: 768 },
      latent: { width: 170, height: 96 },
      tokens: 85 * 48,
    });
    expect(target.steps).toEqual([{ kind: "resize", size: { width: 1360, height: 768 }, method: "lanczos" }]);
  });

  test("gives the other pictures their own shape at the same pixel budget", () => {
    const { images } = planSizes([wide, photo, upright], { megapixels: 0.25 });
    const [first, second, third] = images.map(({ reference }) => reference.size.width / reference.size.height);
    expect(first).toBeCloseTo(16 / 9, 1);
    expect(second).toBeCloseTo(4 / 3, 1);
    expect(third).toBeCloseTo(240 / 427, 1);
    for (const { reference } of images)
      expect(Math.abs((reference.size.width * reference.size.height) / (512 * 512) - 1)).toBeLessThan(0.2);
  });

  test("shows the vision tower the whole picture by one resize", () => {
    const [image] = planSizes([photo]).images;
    expect(image?.vision).toEqual({
      size: { width: 448, height: 336 },
      steps: [{ kind: "resize", size: { width: 448, height: 336 }, method: "lanczos" }],
      grid: { width: 32, height: 24 },
      tokens: 192,
    });
  });

  test("follows a size that was asked for, and cuts the first reference to it where it would be stretched by more than 1 %", () => {
    const { target, images } = planSizes([photo], { size: { width: 1184, height: 864 } });
    expect(target.size).toEqual({ width: 1184, height: 864 });
    expect(images[0]?.reference).toEqual(target);
    expect(target.box).toEqual({ x: 0, y: 41, width: 4032, height: 2942 });
    const near = planSizes([photo], { size: { width: 1184, height: 880 } }).target;
    expect(near.box).toEqual({ x: 0, y: 0, width: 4032, height: 3024 });
  });

  test("never crops at a megapixel: the result laid over the picture lies right", () => {
    for (let width = 400; width < 5000; width += 197) {
      for (let height = 300; height < 4000; height += 179) {
        if (Math.max(width / height, height / width) > 3) continue;
        expect(planSizes([{ name: "", width, height }]).target.box).toEqual({ x: 0, y: 0, width, height });
      }
    }
  });

  test("keeps the first reference's own shape when the size asked for is quite another", () => {
    const { target, images } = planSizes([wide], { size: { width: 768, height: 1024 } });
    expect(target.size).toEqual({ width: 768, height: 1024 });
    expect(images[0]?.reference.size.width).toBeGreaterThan(1000);
  });

  test("works without pictures", () => {
    expect(planSizes([]).target).toMatchObject({ size: { width: 1024, height: 1024 }, steps: [] });
  });

  test.each([
    [{ name: "dot", width: 1, height: 1 }, { megapixels: 0.00025 }],
    [{ name: "tiny", width: 64, height: 48 }, { size: { width: 16, height: 16 } }],
    [photo, { size: { width: 64, height: 48 } }],
    [{ name: "strip", width: 640, height: 10 }, { megapixels: 0.004 }],
  ])("goes down to tiny sizes: %o %o", (source, options) => {
    expectConsistent(planSizes([source, wide], options));
  });
});

describe("the comfyui plan", () => {
  test("scales the first picture to the target, cut to the VAE's multiples, and references from the raw picture", () => {
    const { target, images } = planSizes([wide], { mode: "comfyui" });
    expect(target.steps).toEqual([
      { kind: "resize", size: { width: 1365, height: 768 }, method: "lanczos" },
      { kind: "crop", box: { x: 2, y: 0, width: 1360, height: 768 } },
    ]);
    expect(images[0]?.reference.steps).toEqual([
      { kind: "resize", size: { width: 1368, height: 768 }, method: "area" },
    ]);
    expect(images[0]?.reference).toMatchObject({ latent: { width: 171, height: 96 }, tokens: 86 * 48 });
    expect(images[0]?.vision).toMatchObject({ size: { width: 504, height: 280 }, tokens: 180 });
    expect(images[0]?.vision.steps.map((step) => step.kind === "resize" && step.method)).toEqual(["area", "bilinear"]);
  });

  test("puts the Kontext size in front of the first picture only, in that mode", () => {
    const { target, images } = planSizes([{ name: "a", width: 1300, height: 860 }, wide], { mode: "comfyui-kontext" });
    expect(target.size).toEqual({ width: 1248, height: 832 });
    expect(images[0]?.reference.size).toEqual({ width: 1256, height: 840 });
    expect(images[1]?.reference.size).toEqual({ width: 1368, height: 768 });
  });

  test.each(["comfyui", "comfyui-kontext"] as const)("is consistent in mode %s", (mode) => {
    expectConsistent(planSizes([upright, wide, { name: "dot", width: 1, height: 1 }], { mode, megapixels: 0.01 }));
  });
});

describe("planSizes refuses", () => {
  test.each([
    [{ size: { width: 100, height: 64 } }, "sides must be multiples of 16"],
    [{ size: { width: 64, height: 64 }, megapixels: 1 }, "at once"],
    [{ size: { width: 64, height: 64 }, mode: "comfyui" as const }, "its nodes choose the size"],
    [{ megapixels: 0 }, "wanted from"],
    [{ megapixels: NaN }, "wanted from"],
  ])("%o", (options, message) => {
    expect(() => planSizes([photo], options)).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE", message: expect.stringContaining(message) as string }),
    );
  });

  test("a size off the grid with the nearest one as a hint", () => {
    expect(() => planSizes([photo], { size: { width: 1000, height: 5 } })).toThrow(
      expect.objectContaining({ hint: "Use size 992x16" }),
    );
  });

  test("a picture longer than 64 to 1", () => {
    expect(() => planSizes([{ name: "strip.png", width: 6500, height: 100 }])).toThrow(
      "strip.png: 6500x100 is longer than 64 to 1",
    );
  });
});

test("describePlan says in one line for each picture what happens to it", () => {
  expect(describePlan(planSizes([photo, wide]))).toEqual([
    "photo.jpg 4032x3024: reference 1152x864, vision 448x336 (192 tokens), latent 144x108 (3888 tokens) → output 1152x864",
    "wide.png 1920x1080: reference 1360x768 (stretched 0.4 %), vision 504x280 (180 tokens), latent 170x96 (4080 tokens)",
  ]);
  expect(describePlan(planSizes([wide], { size: { width: 1024, height: 640 } }))).toEqual([
    "wide.png 1920x1080: reference 1024x640 (crop 192x0), vision 504x280 (180 tokens), latent 128x80 (2560 tokens) → output 1024x640",
  ]);
  expect(describePlan(planSizes([]))).toEqual(["no picture: output 1024x1024"]);
});

test("describePlan says what is written at picture 1's size, and from how few pixels", () => {
  const large = { name: "large.jpg", width: 8000, height: 6000 };
  const line = (megapixels: number) => describePlan(planSizes([large], { megapixels }), { keepSize: true })[0];
  expect(line(0.25)).toMatch(/ → output 8000x6000 \(resized from 576x432, which has 193 times fewer pixels\)$/);
  const same = describePlan(planSizes([{ name: "a", width: 1152, height: 864 }]), { keepSize: true })[0];
  expect(same).toMatch(/ → output 1152x864$/);
});

test("a plan is plain data", () => {
  const plan = planSizes([photo, wide], { mode: "comfyui-kontext" });
  expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
});

/** Every route ends at its size, on a grid that the model behind it takes. */
function expectConsistent(plan: SizePlan): void {
  for (const { source, vision, reference } of plan.images) {
    const picture = { ...source, data: new Uint8Array(source.width * source.height * 3) };
    for (const route of [vision, reference]) {
      const { width, height } = applySteps(picture, route.steps);
      expect({ width, height }).toEqual(route.size);
    }
    expect([vision.size.width % 28, vision.size.height % 28]).toEqual([0, 0]);
    expect(reference.size).toEqual({ width: reference.latent.width * 8, height: reference.latent.height * 8 });
    expect(Math.min(reference.latent.width, reference.latent.height)).toBeGreaterThan(0);
  }
}
