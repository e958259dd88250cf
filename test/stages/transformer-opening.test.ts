// When a transformer's weights are widened once, as it opens, and when its modulation has a session of its own.
import { describe, expect, test } from "vitest";
import { scheduledEvaluations, transformerOpening } from "../../src/stages/networks/transformer-plan.js";

const CPU = { provider: "cpu", index: 0, threads: 0 } as const;

// A file with one matrix of 8-bit floats of so many elements.
function fileOf(elements: number) {
  const stored = { dtype: "F8_E4M3", shape: [elements / 1024, 1024], file: "weights", offset: 0, length: elements };
  return { checkpoint: { file: "weights", tensors: new Map([["proj_out.weight", stored]]) } } as unknown as Parameters<
    typeof transformerOpening
  >[0];
}

const SMALL = fileOf(1024 ** 2);
const LARGE = fileOf(20 * 1024 ** 3);

describe("weights that would fit in memory as float32", () => {
  test("are widened once for a schedule of many evaluations, or for any number", () => {
    const once = { optimization: "widened", isModulationFed: false };
    expect(transformerOpening(SMALL, { device: CPU, vram: undefined, evaluations: 8 })).toEqual(once);
    expect(transformerOpening(SMALL, { device: CPU, vram: undefined })).toEqual(once);
  });

  test("stay as they are for few, with the modulation among them", () => {
    const opening = transformerOpening(SMALL, { device: CPU, vram: undefined, evaluations: 7 });
    expect(opening).toEqual({ optimization: "none", isModulationFed: false });
  });
});

test.each([
  ["that would not fit", LARGE, { device: CPU, vram: undefined }],
  ["under a memory limit", SMALL, { device: CPU, vram: 1e9 }],
  ["on a GPU", SMALL, { device: { ...CPU, provider: "cuda" }, vram: undefined }],
] as const)("weights %s stay as they are, with the modulation computed before", (_, file, limit) => {
  for (const evaluations of [4, 40])
    expect(transformerOpening(file, { ...limit, evaluations })).toEqual({
      optimization: "none",
      isModulationFed: true,
    });
});

test("guidance evaluates twice in each step", () => {
  expect(scheduledEvaluations({ steps: 8, cfg: 1 })).toBe(8);
  expect(scheduledEvaluations({ steps: 8, cfg: 4 })).toBe(16);
});
