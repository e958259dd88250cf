// OFT and BOFT by PEFT's and LyCORIS's own modules (fixtures/oracle/adapters/rotations.py), at other strengths by ComfyUI's formula around LyCORIS's own.
import { describe, expect, test } from "vitest";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import type { Adapter } from "../../src/checkpoint/weights.js";
import { float32 } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";
import { adapterCases, LAYERS, model, outputs } from "../support/adapted-layers.js";
import { temporaryFolder } from "../support/folder.js";

/** float32 products and inverses of some ten numbers in another order. */
const SAME = 1e-5;

const cases = await adapterCases("rotations");
const others = await adapterCases("adapters");

async function data(name: string): Promise<Float32Array> {
  return (await cases.golden(name)).data;
}

function between(from: Float32Array, to: Float32Array, share: number): Float32Array {
  return from.map((value, at) => value + share * (to[at]! - value));
}

describe("at strength 1", () => {
  test.each(cases.names)("%s gives what its trainer's own modules give", async (name) => {
    const found = await outputs(model, cases, [{ adapter: await cases.adapter(name), strength: 1 }]);
    for (const layer of LAYERS)
      expect(scaledError(found.get(layer)!.data, await data(`${name}.${layer}`)), layer).toBeLessThan(SAME);
  });
});

describe("at other strengths", () => {
  test.each(cases.names.filter((name) => name.startsWith("lycoris")))("%s turns as ComfyUI does", async (name) => {
    for (const strength of [0.6, -0.5]) {
      const found = await outputs(model, cases, [{ adapter: await cases.adapter(name), strength }]);
      for (const layer of LAYERS) {
        // What LyCORIS turns to by a multiplier, ComfyUI scales once more.
        const wanted = between(await data(`none.${layer}`), await data(`${name}@${strength}.${layer}`), strength);
        expect(scaledError(found.get(layer)!.data, wanted), `${layer} at ${strength}`).toBeLessThan(SAME);
      }
    }
  });

  test.each(cases.names.filter((name) => name.startsWith("peft")))("%s goes there in proportion", async (name) => {
    for (const strength of [0.6, -0.5, 0]) {
      const found = await outputs(model, cases, [{ adapter: await cases.adapter(name), strength }]);
      for (const layer of LAYERS) {
        const wanted = between(await data(`none.${layer}`), await data(`${name}.${layer}`), strength);
        expect(scaledError(found.get(layer)!.data, wanted), `${layer} at ${strength}`).toBeLessThan(SAME);
      }
    }
  });
});

const folder = temporaryFolder();

/** The layers with a LoRA merged into their weights, in float32. */
async function mergedWith({ modules }: Adapter) {
  const merged = await Promise.all(
    [...model.tensors].map(async ([name, stored]) => {
      const data = await readTensor(stored);
      const own = modules.get(name.replace(/\.weight$/, ""));
      if (own === undefined) return [name, float32(stored.shape, data)] as const;
      const [up, down] = await Promise.all([readTensor(own.parts.up!), readTensor(own.parts.down!)]);
      const [rank, columns] = own.parts.down!.shape as [number, number];
      const sum = data.map((value, at) => {
        const [row, column] = [Math.floor(at / columns), at % columns];
        let added = 0;
        for (let each = 0; each < rank; each += 1) added += up[row * rank + each]! * down[each * columns + column]!;
        return value + own.scale * added;
      });
      return [name, float32(stored.shape, sum as Float32Array<ArrayBuffer>)] as const;
    }),
  );
  const path = folder.at("merged.safetensors");
  await writeSafetensors(path, Object.fromEntries(merged), {});
  return readSafetensors(path);
}

describe("beside a LoRA", () => {
  const rotations = ["lycoris-oft-rescaled", "lycoris-boft", "peft-oft-cayley", "peft-boft"];

  test.each(rotations)("%s turns what the LoRA before it added, too", async (name) => {
    const lora = await others.adapter("lycoris-lora", 0);
    const rotation = await cases.adapter(name, 1);
    const wanted = await outputs(await mergedWith(lora), cases, [{ adapter: rotation, strength: 1 }]);
    const found = await outputs(model, cases, [
      { adapter: lora, strength: 1 },
      { adapter: rotation, strength: 1 },
    ]);
    for (const layer of LAYERS)
      expect(scaledError(found.get(layer)!.data, wanted.get(layer)!.data), layer).toBeLessThan(SAME);
  });

  test.each(rotations)("%s leaves what adapters behind it add", async (name) => {
    const rotation = await cases.adapter(name, 0);
    for (const other of ["lycoris-lora", "peft-dora", "lycoris-lokr"]) {
      const added = await others.adapter(other, 1);
      const found = await outputs(model, cases, [
        { adapter: rotation, strength: 1 },
        { adapter: added, strength: 0.7 },
      ]);
      for (const layer of LAYERS) {
        const [turned, none] = [await data(`${name}.${layer}`), await data(`none.${layer}`)];
        const { data: whole } = await others.golden(`${other}.${layer}`);
        const wanted = turned.map((value, at) => value + 0.7 * (whole[at]! - none[at]!));
        expect(scaledError(found.get(layer)!.data, wanted), `${layer} with ${other}`).toBeLessThan(SAME);
      }
    }
  });

  test("two rotations turn one after the other", async () => {
    const [first, second] = [await cases.adapter("peft-oft-cayley", 0), await cases.adapter("peft-oft-cayley", 1)];
    const both = await outputs(model, cases, [
      { adapter: first, strength: 1 },
      { adapter: second, strength: -1 },
    ]);
    const swapped = await outputs(model, cases, [
      { adapter: first, strength: -1 },
      { adapter: second, strength: 1 },
    ]);
    // Polynomials of one matrix commute; one after the other they are not the sum of both.
    for (const layer of LAYERS) {
      expect(scaledError(both.get(layer)!.data, swapped.get(layer)!.data)).toBeLessThan(SAME);
      expect(scaledError(both.get(layer)!.data, await data(`none.${layer}`))).toBeGreaterThan(0.01);
    }
  });
});
