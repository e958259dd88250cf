// Adapters of every kind that adds to weights, by PEFT's and LyCORIS's own modules (fixtures/oracle/adapters), beside weights of every stored form.
import { expect, test } from "vitest";
import { scaledError } from "../parity/table.js";
import { type AtStrength, adapterCases, LAYERS, model, outputs } from "../support/adapted-layers.js";

/** float32 sums of some ten products in another order. */
const SAME = 1e-5;

const cases = await adapterCases("adapters");

function at(strengths: Readonly<Record<string, number>>): Promise<AtStrength[]> {
  return Promise.all(
    Object.entries(strengths).map(async ([name, strength], index) => ({
      adapter: await cases.adapter(name, index),
      strength,
    })),
  );
}

/** `none + Σ strength · (case - none)`: every kind changes an output in proportion to its strength. */
async function interpolated(layer: string, wanted: Readonly<Record<string, number>>): Promise<Float32Array> {
  const { data: none } = await cases.golden(`none.${layer}`);
  const sum = Float32Array.from(none);
  for (const [name, strength] of Object.entries(wanted)) {
    const { data } = await cases.golden(`${name}.${layer}`);
    for (let at = 0; at < sum.length; at += 1) sum[at]! += strength * (data[at]! - none[at]!);
  }
  return sum;
}

test.each(cases.names)(
  "%s gives what its trainer's own modules give, at strengths of 1, 0.6, -0.5 and 0",
  async (name) => {
    const adapter = await cases.adapter(name);
    for (const strength of [1, 0.6, -0.5, 0]) {
      const found = await outputs(model, cases, [{ adapter, strength }]);
      for (const layer of LAYERS) {
        const wanted = await interpolated(layer, { [name]: strength });
        expect(scaledError(found.get(layer)!.data, wanted), `${layer} at ${strength}`).toBeLessThan(SAME);
      }
    }
  },
);

test("adapters of different kinds add up, each as if it were alone", async () => {
  const strengths = {
    "lycoris-lora": 1,
    "peft-dora": 0.5,
    "lycoris-lora-dora-inputs": 0.8,
    "lycoris-lokr-dora-inputs": -0.3,
    "lycoris-lokr": -1,
    "lycoris-full": 0.7,
    "peft-lora-bias": 2,
  };
  const found = await outputs(model, cases, await at(strengths));
  for (const layer of LAYERS)
    expect(scaledError(found.get(layer)!.data, await interpolated(layer, strengths))).toBeLessThan(SAME);
});

test("adapters that rescale inputs add up too", async () => {
  const strengths = { "lycoris-lora-dora-inputs": 0.8, "lycoris-loha-dora-inputs": -0.3, "lycoris-loha": 0.5 };
  const found = await outputs(model, cases, await at(strengths));
  for (const layer of LAYERS)
    expect(scaledError(found.get(layer)!.data, await interpolated(layer, strengths))).toBeLessThan(SAME);
});
