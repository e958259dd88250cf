// Adapters that are no plain LoRA: how their parts are found under every spelling, and what is refused of them.
import { describe, expect, test } from "vitest";
import { matchLora, matchTable } from "../../src/checkpoint/lora/lora.js";
import { baseNames } from "../../src/checkpoint/lora/lora-layouts.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { WritableTensor } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { temporaryFolder } from "./folder.js";

const path = temporaryFolder();
let files = 0;

async function checkpoint(tensors: Record<string, WritableTensor>, metadata: Record<string, string> = {}) {
  const file = path(`${files++}.safetensors`);
  await writeSafetensors(file, tensors, metadata);
  return readSafetensors(file);
}

const MODULE = "transformer_blocks.0.attn.to_q";
const OTHER = "transformer_blocks.0.attn.to_k";
const NORM = "transformer_blocks.0.attn.norm_q";
const [OUT, IN, RANK] = [6, 20, 3];
const model = await checkpoint({
  [`${MODULE}.weight`]: float32([OUT, IN]),
  [`${MODULE}.bias`]: float32([OUT]),
  [`${OTHER}.weight`]: float32([OUT, IN]),
  [`${NORM}.weight`]: float32([OUT]),
});
const number = (value: number) => float32([], Float32Array.of(value));

type Parts = Record<string, WritableTensor>;
const LORA: Parts = { "lora_down.weight": float32([RANK, IN]), "lora_up.weight": float32([OUT, RANK]) };
const PEFT: Parts = { "lora_A.weight": float32([RANK, IN]), "lora_B.weight": float32([OUT, RANK]) };
const LOHA: Parts = {
  ...{ hada_w1_a: float32([OUT, RANK]), hada_w1_b: float32([RANK, IN]) },
  ...{ hada_w2_a: float32([OUT, RANK]), hada_w2_b: float32([RANK, IN]) },
};
const LOKR: Parts = { lokr_w1: float32([2, 4]), lokr_w2: float32([3, 5]) };
const FACTORED: Parts = { lokr_w1: float32([2, 4]), lokr_w2_a: float32([3, 1]), lokr_w2_b: float32([1, 5]) };
const FULL: Parts = { diff: float32([OUT, IN]) };

function under(base: string, parts: Parts): Parts {
  return Object.fromEntries(Object.entries(parts).map(([part, stored]) => [`${base}.${part}`, stored]));
}

async function matching(parts: Parts, metadata: Record<string, string> = {}) {
  return matchLora(await checkpoint(parts, metadata), model);
}

async function failure(parts: Parts, metadata: Record<string, string> = {}): Promise<unknown> {
  return matching(parts, metadata).catch((error: unknown) => error);
}

describe("kinds", () => {
  test.each([
    ["LoRA with biases", { ...PEFT, "lora_B.bias": float32([OUT]) }, [3]],
    ["DoRA", { ...PEFT, lora_magnitude_vector: float32([OUT]) }, [3]],
    ["DoRA", { ...PEFT, "lora_magnitude_vector.weight": float32([OUT]) }, [3]],
    ["DoRA", { ...LORA, dora_scale: float32([OUT, 1]) }, [3]],
    ["DoRA", { ...LORA, dora_scale: float32([1, IN]) }, [3]],
    ["LoHa", LOHA, [3]],
    ["LoHa with DoRA", { ...LOHA, dora_scale: float32([1, IN]) }, [3]],
    ["LoKr", LOKR, []],
    ["LoKr", FACTORED, [1]],
    ["full differences", FULL, []],
    ["full differences", { ...FULL, diff_b: float32([OUT]) }, []],
    ["bias differences", { diff_b: float32([OUT]) }, []],
  ])("%s are found under every name of a module", async (kind, parts, ranks) => {
    for (const { name } of baseNames(MODULE)) {
      const match = await matching(under(name, parts));
      expect([...match.matched.keys()]).toEqual([MODULE]);
      expect(match).toMatchObject({ kinds: [kind], ranks, unmatched: [] });
    }
  });

  test.each(["default", "default_0", "my_adapter"])(
    "the name %s that PEFT gave an adapter is passed over",
    async (name) => {
      const parts = {
        ...{ [`lora_A.${name}.weight`]: float32([RANK, IN]), [`lora_B.${name}.weight`]: float32([OUT, RANK]) },
        [`lora_magnitude_vector.${name}.weight`]: float32([OUT]),
      };
      const match = await matching(under(`base_model.model.${MODULE}`, parts));
      expect(match).toMatchObject({ kinds: ["DoRA"], unmatched: [] });
      expect(matchTable(match)).toEqual([
        "matched 1/1 modules, DoRA, rank 3, alpha none, layout PEFT with adapter name, prefix base_model.model.",
      ]);
      const factors = Object.fromEntries(Object.entries(FACTORED).map(([part, stored]) => [`${part}.${name}`, stored]));
      expect(await matching(under(MODULE, factors))).toMatchObject({ kinds: ["LoKr"], unmatched: [] });
    },
  );

  test("differences of norms are found as diff and as LyCORIS' w_norm", async () => {
    for (const part of ["diff", "w_norm"]) {
      const match = await matching(
        under(`lycoris_${NORM.replaceAll(".", "_")}`, { [part]: float32([OUT]), alpha: number(1) }),
      );
      expect([...match.matched.keys()]).toEqual([NORM]);
    }
  });

  test("the difference of a bias that the model lacks is not used", async () => {
    const match = await matching({ ...under(MODULE, FULL), [`${NORM}.diff_b`]: float32([OUT]) });
    expect(match.unmatched).toEqual([`${NORM}.diff_b`]);
  });

  test.each([
    ["a whole LoKr is 1, whatever its alpha", LOKR, 1e10, 1],
    ["a factored LoKr is alpha over the rank of the factor", FACTORED, 4, 4],
    ["a LoHa is alpha over the rank", LOHA, 4, 4 / RANK],
    ["full differences is 1", FULL, 4, 1],
  ])("the scale of %s", async (_, parts, alpha, scale) => {
    const { matched } = await matching(under(MODULE, { ...parts, alpha: number(alpha) }));
    expect(matched.get(MODULE)?.scale).toBe(scale);
  });

  test.each([
    [{ peft_type: "LOKR", r: 8, alpha: 4 }, LOKR, 0.5],
    [{ peft_type: "LOKR", r: 8, alpha: 4, rank_pattern: { "attn.to_q": 2 } }, LOKR, 2],
    [
      { peft_type: "LOKR", r: 8, alpha: 4, rank_pattern: { ".*to_q": 2 }, alpha_pattern: { "attn.to_\\w": 6 } },
      LOKR,
      3,
    ],
    [{ peft_type: "LOHA", r: RANK, alpha: 6, alpha_pattern: { to_q: 9 } }, LOHA, 3],
  ])("PEFT's configuration %o gives the scale of its own LoHa and LoKr", async (config, parts, scale) => {
    const { matched } = await matching(under(MODULE, parts), { lora_adapter_metadata: JSON.stringify(config) });
    expect(matched.get(MODULE)?.scale).toBe(scale);
  });
});

describe("what is refused", () => {
  test.each([
    ["two kinds of one module", { ...LORA, ...LOKR }, /are two adapters of one module, LoRA and LoKr$/],
    [
      "a factor in two forms",
      { ...FACTORED, lokr_w2: float32([3, 5]) },
      /"\S+lokr_w2" and "\S+lokr_w2_a" are two forms of one factor$/,
    ],
    ["magnitudes alone", { dora_scale: float32([OUT, 1]) }, /^Cannot find the matrices beside "\S+dora_scale"/],
    ["a bias alone", { "lora_B.bias": float32([OUT]) }, /^Cannot find the matrices beside "\S+lora_B\.bias"/],
    ["half a LoKr", { lokr_w1: float32([2, 4]) }, /^Cannot find "lokr_w2" beside "\S+lokr_w1"/],
    ["half a factor", { ...LOKR, lokr_w1: undefined, lokr_w1_a: float32([2, 1]) }, /^Cannot find "lokr_w1_b" beside/],
    ["half a LoHa", { ...LOHA, hada_w2_b: undefined }, /^Cannot find "hada_w2_b" beside "\S+hada_w1_a"/],
    [
      "half of PEFT's pair",
      { "lora_A.default.weight": float32([RANK, IN]) },
      /^Cannot find "\S+lora_B\.default\.weight" beside/,
    ],
    [
      "a full difference of another model",
      { diff: float32([OUT, IN + 1]) },
      /wanted floats \[6, 20\], found F32 \[6, 21\]$/,
    ],
    ["a bias difference of another model", { diff_b: float32([OUT + 1]) }, /wanted floats \[6\], found F32 \[7\]$/],
    [
      "magnitudes of another model",
      { ...LORA, dora_scale: float32([IN, 1]) },
      /wanted floats \[6\] or \[6, 1\] or \[1, 20\], found/,
    ],
    [
      "a Kronecker factor that divides nothing",
      { ...LOKR, lokr_w1: float32([4, 4]) },
      /wanted floats \[a divisor of 6, a divisor of 20\]/,
    ],
    [
      "Kronecker factors that do not fit each other",
      { ...LOKR, lokr_w2: float32([3, 4]) },
      /wanted floats \[3, 5\], found F32 \[3, 4\]$/,
    ],
    ["a factor of nothing", { ...LOKR, lokr_w1: float32([0, 4]) }, /found F32 \[0, 4\]$/],
    [
      "a rank of no adapter",
      { "lora_down.weight": float32([16385, IN]), "lora_up.weight": float32([OUT, 16385]) },
      /wanted floats \[rank, 20\], found F32 \[16385, 20\]$/,
    ],
    [
      "ranks that differ",
      { ...LOHA, hada_w1_a: float32([OUT, RANK + 1]) },
      /wanted floats \[6, rank\], found F32 \[6, 4\]$/,
    ],
    [
      "a bias beside magnitudes",
      { ...PEFT, "lora_B.bias": float32([OUT]), lora_magnitude_vector: float32([OUT]) },
      /which PEFT does not make$/,
    ],
    [
      "Tucker factors",
      { ...LOHA, hada_t1: float32([RANK, RANK, 1, 1]) },
      /are LyCORIS with Tucker factors, which qedit does not compute/,
    ],
  ])("%s", async (_, parts, message) => {
    const given = Object.entries(parts).filter((entry): entry is [string, WritableTensor] => entry[1] !== undefined);
    const error = await failure(under(MODULE, Object.fromEntries(given)));
    expect(error).toMatchObject({ code: "QEDIT_E_LORA", message: expect.stringMatching(message) });
  });

  test("adapters of one module under two names", async () => {
    expect(await failure({ ...under(MODULE, LORA), ...under(`transformer.${MODULE}`, FULL) })).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(/are two adapters of one module$/),
    });
  });

  test("several adapters with names in one file", async () => {
    const parts = Object.fromEntries(
      ["a", "b"].flatMap((name) => [
        [`lora_A.${name}.weight`, float32([RANK, IN])],
        [`lora_B.${name}.weight`, float32([OUT, RANK])],
      ]),
    );
    expect(await failure(under(MODULE, parts))).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(
        /it holds several adapters, "\S+lora_A\.b\.weight" beside another of transformer_blocks/,
      ),
    });
    const apart = {
      ...under(MODULE, { "lora_A.a.weight": float32([RANK, IN]), "lora_B.a.weight": float32([OUT, RANK]) }),
      ...under(OTHER, { "lora_A.b.weight": float32([RANK, IN]), "lora_B.b.weight": float32([OUT, RANK]) }),
    };
    expect(await failure(apart)).toMatchObject({ message: expect.stringMatching(/it holds several adapters, a, b$/) });
  });

  test("but not what is of modules that the model lacks", async () => {
    const elsewhere = { ...LORA, ...PEFT, ...LOKR, "lora_A.other.weight": float32([1]) };
    const { matched } = await matching({ ...under(MODULE, LORA), ...under("lora_te_x", elsewhere) });
    expect([...matched.keys()]).toEqual([MODULE]);
  });

  test.each([
    [`base_model.model.${OTHER}.weight`, [OUT, IN]],
    [`base_model.model.${NORM}.weight`, [OUT]],
    [`transformer.${MODULE}.base_layer.bias`, [OUT]],
    [`${MODULE}.bias`, [OUT]],
  ])("%s, which takes the place of the model's", async (key, shape) => {
    expect(await failure({ ...under(`base_model.model.${MODULE}`, PEFT), [key]: float32(shape) })).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(/1 of its \d modules are replaced weights, which qedit does not compute: "\S+"$/),
    });
  });

  test.each(["to_qkv", "to_added_qkv", "add_qkv_proj"])("the fused projection %s", async (fused) => {
    for (const name of baseNames(`transformer_blocks.0.attn.${fused}`).map((each) => each.name)) {
      expect(await failure({ ...under(MODULE, LORA), ...under(name, LORA) })).toMatchObject({
        code: "QEDIT_E_LORA",
        message: expect.stringMatching(/1 of its 2 modules are of fused projections, which qedit does not compute/),
      });
    }
  });

  test.each(["scalar", "lora_gate.weight", "lokr_w3"])("a part .%s that no tool is known to write", async (part) => {
    expect(
      await failure(under(`lycoris_${MODULE.replaceAll(".", "_")}`, { ...LORA, [part]: float32([1]) })),
    ).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(/: of modules that it adapts it holds "\S+", which qedit does not know$/),
    });
  });

  test("an adapter of PEFT for a model with other weights", async () => {
    const metadata = { lora_adapter_metadata: '{"init_lora_weights":"pissa_niter_4","lora_alpha":3}' };
    expect(await failure(under(MODULE, PEFT), metadata)).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(/it is for a model whose weights were changed \(pissa_niter_4\)$/),
    });
  });
});
