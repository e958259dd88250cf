// OFT and BOFT: how their parts are found under every spelling, how they are made, and what is refused of them.
import { describe, expect, test } from "vitest";
import { matchLora, matchTable } from "../../src/checkpoint/lora/lora.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type WritableTensor, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { temporaryFolder } from "./folder.js";

const path = temporaryFolder();
let files = 0;

type Parts = Readonly<Record<string, WritableTensor>>;

async function checkpoint(tensors: Parts, metadata: Record<string, string> = {}) {
  const file = path(`${files++}.safetensors`);
  await writeSafetensors(file, tensors, metadata);
  return readSafetensors(file);
}

const MODULE = "transformer_blocks.0.attn.to_q";
const [OUT, IN] = [12, 20];
const model = await checkpoint({ [`${MODULE}.weight`]: float32([OUT, IN]) });
const number = (value: number) => float32([], Float32Array.of(value));

function matched(base: string, parts: Parts, config?: object) {
  const named = Object.fromEntries(Object.entries(parts).map(([part, stored]) => [`${base}.${part}`, stored]));
  const metadata = config ? { lora_adapter_metadata: JSON.stringify(config) } : {};
  return checkpoint(named, metadata).then((lora) => matchLora(lora, model));
}

async function failure(base: string, parts: Parts, config?: object): Promise<unknown> {
  return matched(base, parts, config).catch((error: unknown) => error);
}

const OFT: Parts = { oft_blocks: float32([3, 4, 4]) };
const PEFT: Parts = { "oft_R.weight": float32([5, 6]) };
const SAVED = { peft_type: "OFT", peft_version: "0.21.2", use_cayley_neumann: true, num_cayley_neumann_terms: 7 };

describe("how rotations are made", () => {
  test.each([
    ["OFT", "lora_unet_transformer_blocks_0_attn_to_q", { ...OFT, alpha: number(0.5) }, { limit: 6 }],
    ["OFT", "lycoris_transformer_blocks_0_attn_to_q", { ...OFT, alpha: number(0), rescale: float32([OUT, 1]) }, {}],
    ["OFT", `transformer.${MODULE}`, OFT, {}],
    ["BOFT", "lycoris_transformer_blocks_0_attn_to_q", { oft_blocks: float32([2, 2, 6, 6]) }, {}],
    ["OFT of inputs", `transformer.${MODULE}`, PEFT, { terms: 5 }],
    ["OFT of inputs", `transformer.${MODULE}`, { "oft_R.weight": float32([1, 6]) }, { terms: 5 }],
    ["OFT of inputs", `base_model.model.${MODULE}`, { "oft_R.default.weight": float32([5, 6]) }, { terms: 5 }],
    ["BOFT of inputs", `base_model.model.${MODULE}`, { boft_R: float32([1, 5, 4, 4]), boft_s: float32([OUT, 1]) }, {}],
  ] as const)("%s of %s", async (kind, base, parts, rotation) => {
    const match = await matched(base, parts);
    expect(match.unmatched).toEqual([]);
    expect(match.matched.get(MODULE)).toMatchObject({ scale: 1, alpha: undefined, rank: undefined });
    expect(match.matched.get(MODULE)!.rotation).toEqual(rotation);
    expect(match.kinds).toEqual([kind]);
    expect(matchTable(match)).toEqual([expect.stringMatching(new RegExp(`^matched 1/1 modules, ${kind}, layout `))]);
  });

  test.each([
    [SAVED, { terms: 7 }],
    [
      { ...SAVED, coft: true, eps: 0.01 },
      { terms: 7, blockLimit: 0.01 },
    ],
    [{ ...SAVED, coft: false, eps: 0.01 }, { terms: 7 }],
    [{ ...SAVED, use_cayley_neumann: false }, {}],
    // The inverse itself was the same before.
    [{ use_cayley_neumann: false }, {}],
  ])("PEFT's configuration %j", async (config, rotation) => {
    const match = await matched(`base_model.model.${MODULE}`, PEFT, config);
    expect(match.matched.get(MODULE)!.rotation).toEqual(rotation);
  });
});

describe("refused is", () => {
  const base = `base_model.model.${MODULE}`;
  test.each([
    ["PEFT before 0.18", PEFT, { ...SAVED, peft_version: undefined }, /its rotations are of PEFT before 0\.18/],
    ["a configuration that does not say how", PEFT, { peft_type: "OFT" }, /its rotations are of PEFT before 0\.18/],
    ["no term", PEFT, { ...SAVED, num_cayley_neumann_terms: 0 }, /num_cayley_neumann_terms 0, a whole number from 1/],
    ["no length", PEFT, { ...SAVED, coft: true, eps: -1 }, /eps -1, a number above 0 is wanted/],
    [
      "another width",
      { oft_blocks: float32([3, 5, 5]) },
      undefined,
      /wanted \[n, b, b\] with n · b = 12, found F32 \[3, 5, 5\]/,
    ],
    ["blocks that are no squares", { oft_blocks: float32([3, 4, 3]) }, undefined, /wanted \[n, b, b\]/],
    ["a stage too many", { oft_blocks: float32([3, 3, 4, 4]) }, undefined, /wanted \[stages, n, b, b\].* whole groups/],
    ["odd blocks of stages", { oft_blocks: float32([1, 4, 3, 3]) }, undefined, /an even b/],
    ["numbers of no triangle", { "oft_R.weight": float32([5, 7]) }, undefined, /wanted \[n, b · \(b - 1\) \/ 2\]/],
    ["blocks of other inputs", { "oft_R.weight": float32([3, 6]) }, undefined, /with n · b = 20/],
    [
      "butterfly factors",
      { boft_R: float32([2, 5, 4, 4]), boft_s: float32([OUT, 1]) },
      undefined,
      /without butterfly factors/,
    ],
    ["half a BOFT", { boft_R: float32([1, 5, 4, 4]) }, undefined, /Cannot find "boft_s" beside/],
    ["a scale alone", { rescale: float32([OUT, 1]) }, undefined, /Cannot find the matrices beside ".*rescale"/],
    ["a scale of another kind", { ...PEFT, rescale: float32([OUT, 1]) }, undefined, /rescale" is of no OFT/],
    ["DoRA of a rotation", { ...OFT, dora_scale: float32([OUT, 1]) }, undefined, /dora_scale" is beside OFT/],
    [
      "a scaled one",
      { ...PEFT, "oft_R.scaled_oft": number(1) },
      undefined,
      /are scaled OFT, which qedit does not compute/,
    ],
    ["two kinds", { ...OFT, ...PEFT }, undefined, /are two adapters of one module, OFT and OFT of inputs/],
  ] as const)("%s", async (_, parts, config, message) => {
    expect(await failure(base, parts as Parts, config)).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(message),
    });
  });
});
