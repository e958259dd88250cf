import { describe, expect, test } from "vitest";
import { symmetricBetaQuantile } from "../../src/sampling/inverse-beta.js";
import { samplerNamed } from "../../src/sampling/samplers.js";
import { SCHEDULER_NAMES } from "../../src/sampling/sampling-names.js";
import { runSigmas, scheduleSigmas } from "../../src/sampling/schedules.js";
import { sigmaTable } from "../../src/sampling/sigma-table.js";
import { golden, maxDifference } from "./golden.js";
import { TOLERANCE } from "./tolerances.js";

interface Case {
  scheduler: string;
  shift: number;
  sampler: string;
  steps: number;
  denoise: number;
  sigmas: number[];
}

// Shift 3: the values that users see in ComfyUI, to six decimals.
const KNOWN: readonly (readonly [string, number, readonly number[]])[] = [
  ["simple", 4, [1, 0.9, 0.75, 0.5, 0]],
  ["simple", 8, [1, 0.954545, 0.9, 0.833333, 0.75, 0.642857, 0.5, 0.3, 0]],
  ["sgm_uniform", 4, [1, 0.900359, 0.751121, 0.502985, 0]],
  ["normal", 4, [1, 0.857692, 0.602151, 0.008929, 0]],
  ["beta", 4, [1, 0.933535, 0.750749, 0.392171, 0]],
  ["karras", 4, [1, 0.232737, 0.036832, 0.002994, 0]],
  ["exponential", 4, [1, 0.144129, 0.020773, 0.002994, 0]],
  ["kl_optimal", 4, [1, 0.578682, 0.27009, 0.002994, 0]],
  ["linear_quadratic", 4, [1, 0.9875, 0.975, 0.725, 0]],
];

describe("scheduleSigmas", () => {
  test("knows ComfyUI's nine schedulers, in its order", () => {
    expect(SCHEDULER_NAMES).toEqual([
      "simple",
      "sgm_uniform",
      "karras",
      "exponential",
      "ddim_uniform",
      "beta",
      "normal",
      "linear_quadratic",
      "kl_optimal",
    ]);
  });

  test.each(KNOWN)("%s gives the known levels for %i steps", (name, steps, known) => {
    expect(maxDifference(scheduleSigmas(name, sigmaTable(3), steps), known)).toBeLessThanOrEqual(TOLERANCE.sixDecimals);
  });

  test("starts ddim_uniform below 1", () => {
    expect(scheduleSigmas("ddim_uniform", sigmaTable(3), 4)[0]).toBeCloseTo(0.900958, 6);
  });

  test("picks the published entries for 20 steps of beta", () => {
    const { sigmas } = sigmaTable(3);
    const indexes = [999, 986, 959, 922, 876, 823, 765, 703, 637, 569, 500, 430, 362, 296, 234, 176, 123, 77, 40, 13];
    expect(Array.from(scheduleSigmas("beta", sigmaTable(3), 20))).toEqual([
      ...indexes.map((index) => sigmas[index]),
      0,
    ]);
  });

  test("refuses one step of kl_optimal, which would divide by zero", () => {
    expect(() => scheduleSigmas("kl_optimal", sigmaTable(3), 1)).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE" }),
    );
  });

  test.each([0, -1, 2.5, NaN])("refuses %d steps", (steps) => {
    expect(() => scheduleSigmas("simple", sigmaTable(3), steps)).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE" }),
    );
  });

  test("answers an unknown scheduler with all names and the nearest one", () => {
    const error = {
      code: "QEDIT_E_USAGE",
      message: expect.stringContaining("simple, sgm_uniform"),
      hint: 'Did you mean "karras"?',
    };
    expect(() => scheduleSigmas("kerras", sigmaTable(3), 4)).toThrow(expect.objectContaining(error));
  });
});

describe("runSigmas", () => {
  test.each([
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
  ])("gives ComfyUI's levels for every golden run of %s", (scheduler) => {
    const cases = golden<Case>("sigmas").cases.filter((one) => one.scheduler === scheduler);
    expect(cases.length).toBeGreaterThan(30);
    for (const { sampler, shift, sigmas, ...length } of cases) {
      const own = runSigmas(sigmaTable(shift), { ...length, spareStep: samplerNamed(sampler).spareStep });
      expect(maxDifference(own, sigmas), JSON.stringify({ shift, sampler, ...length })).toBeLessThanOrEqual(
        TOLERANCE.sigmas,
      );
    }
  });

  test("gives no levels at denoise 0", () => {
    expect(runSigmas(sigmaTable(3), { scheduler: "simple", steps: 4, denoise: 0, spareStep: false })).toHaveLength(0);
  });

  test.each([-0.1, 1.5, NaN])("refuses denoise %d", (denoise) => {
    expect(() => runSigmas(sigmaTable(3), { scheduler: "simple", steps: 4, denoise, spareStep: false })).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE" }),
    );
  });
});

describe("sigmaTable", () => {
  test("runs from 0.002994012 to 1 for shift 3", () => {
    const { sigmas } = sigmaTable(3);
    expect(sigmas).toHaveLength(1000);
    expect([sigmas[0], sigmas[999]]).toEqual([Math.fround(0.002994012), 1]);
  });

  test.each([0, -3, Infinity, NaN])("refuses shift %d", (shift) => {
    expect(() => sigmaTable(shift)).toThrow(expect.objectContaining({ code: "QEDIT_E_USAGE" }));
  });
});

describe("symmetricBetaQuantile", () => {
  test("is the identity for a = 1, the even distribution", () => {
    for (const p of [0, 0.001, 0.25, 0.5, 0.8, 1]) expect(symmetricBetaQuantile(p, 1)).toBeCloseTo(p, 14);
  });

  test("is sin² for a = 1/2, the arcsine distribution", () => {
    for (const p of [0.01, 0.3, 0.7, 0.99])
      expect(symmetricBetaQuantile(p, 0.5)).toBeCloseTo(Math.sin((Math.PI * p) / 2) ** 2, 14);
  });
});
