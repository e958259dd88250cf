// Keys with prefixes; other spellings of whole files are in forms.test.ts.
import { describe, expect, test } from "vitest";
import { stripPrefix } from "../../src/checkpoint/published-names.js";

describe("stripPrefix", () => {
  const stored = { dtype: "F32", shape: [], file: "/x", offset: 0, length: 4 } as const;
  const named = (...names: string[]) => ({
    file: "x",
    tensors: new Map(names.map((name) => [name, stored])),
    metadata: {},
  });
  const six = (prefix: string) => Array.from({ length: 6 }, (_, i) => `${prefix}${i}`);
  const keys = (...names: string[]) => [...stripPrefix(named(...names)).tensors.keys()];

  test("takes off the most frequent prefix and leaves out what does not carry it", () => {
    expect(keys(...six("net."), ...six("model.diffusion_model."), "model.diffusion_model.x", "vae.y")).toEqual([
      ...six(""),
      "x",
    ]);
  });

  test("does not count a prefix of five keys, and falls back to model.", () => {
    expect(keys("net.1", "net.2", "net.3", "net.4", "net.5", "model.a")).toEqual(["a"]);
  });

  test("leaves a file without prefixes as it is", () => {
    const plain = named("img_in.weight", "txt_norm.weight");
    expect(stripPrefix(plain)).toBe(plain);
  });
});
