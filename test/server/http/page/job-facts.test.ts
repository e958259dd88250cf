import { expect, test } from "vitest";
import { factsOf } from "../../../../src/server/http/page/job-facts.js";
import type { Job, Result } from "../../../../src/server/http/page/page-wire.js";

const RESULT: Result = {
  ...{ type: "image/png", bytes: 1, width: 64, height: 48, seed: "7", device: "cpu" },
  seconds: { sample: 2, decode: 0.5 },
  drift: { zoom: 1.003, right: 0.1, down: -2 },
  recipe: { settings: { sample: { steps: 4, cfg: 1 } } },
};

const job = (result: Partial<Result>): Job => ({
  ...{ id: "1", state: "completed", created: "", parameters: { model: "tiny" } },
  inputs: [{ name: "cat.jpg", sha256: "" }],
  result: { ...RESULT, ...result },
});

test("a result is told by its numbers", () => {
  expect(Object.fromEntries(factsOf(job({})))).toEqual({
    ...{ Pictures: "cat.jpg", Model: "tiny", Seed: "7", Steps: "4", Guidance: "1", Size: "64 x 48" },
    ...{ Drift: "0.30 % larger, 2.0 px up", Device: "cpu", Time: "2.5 s" },
  });
});

test("a drift that is none or unknown is said so", () => {
  const drift = (value: Result["drift"]) => Object.fromEntries(factsOf(job({ drift: value })))["Drift"];
  expect(drift({ zoom: 1, right: 0.1, down: 0 })).toBe("none");
  expect(drift(null)).toBe("cannot tell");
});

test("a recipe of another form leaves facts out", () => {
  const facts = Object.fromEntries(factsOf(job({ recipe: { settings: "?" } })));
  expect(facts).not.toHaveProperty("Steps");
  expect(facts).toHaveProperty("Seed", "7");
});
