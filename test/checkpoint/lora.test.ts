// Matching LoRA files to a model: every spelling, scales, and what is refused or left over.

import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import { matchLora, matchTable, refuseUnmatched } from "../../src/checkpoint/lora/lora.js";
import { openLora } from "../../src/checkpoint/lora/lora-config.js";
import { baseNames, PAIR_LAYOUTS } from "../../src/checkpoint/lora/lora-layouts.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { WritableTensor } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { temporaryFolder } from "./folder.js";

const path = temporaryFolder();
let files = 0;

async function checkpoint(tensors: Record<string, WritableTensor>, metadata: Record<string, string> = {}) {
  const file = path(`${files++}.safetensors`);
  await writeSafetensors(file, tensors, metadata);
  return readSafetensors(file);
}

const MODULE = "transformer_blocks.0.attn.to_q";
const OUT = 5;
const IN = 7;
const RANK = 2;
const model = await checkpoint({
  [`${MODULE}.weight`]: float32([OUT, IN]),
  [`${MODULE}.bias`]: float32([OUT]),
  "transformer_blocks.0.attn.norm_q.weight": float32([OUT]),
  "transformer_blocks.0.img_mlp.net.2.weight": float32([OUT, IN]),
});
const up = float32([OUT, RANK]);
const down = float32([RANK, IN]);
const pair = (base: string, layout = PAIR_LAYOUTS[0]) => ({ [base + layout?.up]: up, [base + layout?.down]: down });
const failure = async (tensors: Record<string, WritableTensor>) =>
  matchLora(await checkpoint(tensors), model).catch((reason: unknown) => reason);

describe("matchLora", () => {
  const spellings = PAIR_LAYOUTS.flatMap((layout) =>
    baseNames(MODULE).map(({ name }) => [`${name}${layout.up}`, name, layout] as const),
  );

  test.each(spellings)("accepts %s", async (_, name, layout) => {
    const { matched, unmatched } = await matchLora(await checkpoint(pair(name, layout)), model);
    expect([...matched.keys()]).toEqual([MODULE]);
    expect(matched.get(MODULE)?.parts.up?.shape).toEqual([OUT, RANK]);
    expect(matched.get(MODULE)?.parts.down?.shape).toEqual([RANK, IN]);
    expect(unmatched).toEqual([]);
  });

  test.each([
    ["float32", float32([], Float32Array.of(8)), 4],
    ["int64", tensor("int64", [], BigInt64Array.of(8n)), 4],
    ["bfloat16", { ...float32([1], Float32Array.of(1)), storedAs: "BF16" } as const, 0.5],
  ])("scales by an alpha of type %s over the rank", async (_, alpha, scale) => {
    const { matched } = await matchLora(await checkpoint({ ...pair(MODULE), [`${MODULE}.alpha`]: alpha }), model);
    expect(matched.get(MODULE)?.scale).toBe(scale);
  });

  test("scales by 1 without alpha", async () => {
    const { matched } = await matchLora(await checkpoint(pair(MODULE)), model);
    expect(matched.get(MODULE)).toMatchObject({ scale: 1, alpha: undefined });
  });

  test("returns keys that fit nothing, and counts their modules, not their halves", async () => {
    const lora = await checkpoint({ ...pair(MODULE), ...pair("te.layer"), "te.layer.alpha": float32([1]) });
    const match = await matchLora(lora, model);
    expect(match.unmatched).toHaveLength(3);
    expect(matchTable(match)).toEqual([
      "matched 1/2 modules, rank 2, alpha none, layout kohya, no prefix",
      expect.stringMatching(/^3 keys not used: /),
    ]);
    expect(() => refuseUnmatched(match)).toThrow(/^Cannot use all of \S+: 3 keys fit nothing in the model/);
  });

  test("a key beside a pair is of the same module", async () => {
    const match = await matchLora(
      await checkpoint({ ...pair(`lora_unet_${MODULE.replaceAll(".", "_")}`), ...pair("te.x"), "te.x.dora_scale": up }),
      model,
    );
    expect(matchTable(match)[0]).toMatch(/^matched 1\/2 modules/);
  });

  test("refuseUnmatched accepts a file that was used whole", async () => {
    const match = await matchLora(await checkpoint(pair(MODULE)), model);
    expect(() => refuseUnmatched(match)).not.toThrow();
  });

  const PEFT = PAIR_LAYOUTS.find(({ name }) => name === "PEFT")!;
  const OTHER = "transformer_blocks.0.img_mlp.net.2";
  test.each([
    ["LoCon with lora_mid", "lora_mid.weight"],
    ["LoRA with biases before the rank", "lora_A.bias"],
    ["LoRA with reshaped weights", "reshape_weight"],
    ["replaced weights", "set_weight"],
    ["replaced weights", "modules_to_save.weight"],
    ["LyCORIS with Tucker factors", "hada_t1"],
    ["LyCORIS with Tucker factors", "lokr_t2"],
    ["GLoRA", "a1.weight"],
    ["OFT of PEFT before 0\\.14", "oft_r.default"],
    ["OFT of LyCORIS before 2\\.0", "oft_diag"],
    ["other forms of OFT", "oft_embedding_R.default.weight"],
    ["scaled OFT", "oft_R.scaled_oft"],
    ["VeRA", "vera_lambda_b"],
    ["IA3", "ia3_l"],
    ["AdaLoRA", "lora_E"],
    ["KaSA", "lora_diag.default"],
    ["T-LoRA", "q_layer.weight"],
    ["FourierFT", "fourierft_spectrum"],
    ["LN tuning", "ln_tuning_layers.weight"],
    ["OSF", "osf_svd_params.U_low"],
  ])("%s (.%s) of a module that the model has is refused by its name, alone and beside pairs", async (form, key) => {
    const message = expect.stringMatching(
      new RegExp(
        `: 1 of its [12] modules are ${form}, which qedit does not compute: "\\S+${key.replaceAll(".", "\\.")}"$`,
      ),
    );
    for (const base of [`transformer.${MODULE}`, `lora_unet_${MODULE.replaceAll(".", "_")}`]) {
      expect(await failure({ [`${base}.${key}`]: float32([1]) })).toMatchObject({ code: "QEDIT_E_LORA", message });
      const beside = { ...pair(base, PEFT), ...pair(OTHER), [`${base}.${key}`]: float32([1]) };
      expect(await failure(beside)).toMatchObject({ code: "QEDIT_E_LORA", message });
    }
  });

  test("a form that is not computed counts for modules of the model only", async () => {
    const { matched } = await matchLora(
      await checkpoint({ ...pair(MODULE), "lora_te_layer.dora_scale": float32([1]) }),
      model,
    );
    expect(matched.size).toBe(1);
  });

  test("shows keys of both sides when nothing fits", async () => {
    expect(await failure(pair("lora_te_x"))).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(/it holds "lora_te_x\.\S+", "lora_te_x\.\S+", the model "transformer_blocks/),
    });
  });

  test.each([
    [
      "the input width",
      { down: [RANK, IN + 1] },
      `lora_down.weight" of`,
      `wanted floats [rank, ${IN}], found F32 [2, 8]`,
    ],
    [
      "the output width",
      { up: [OUT + 1, RANK] },
      `lora_up.weight" of`,
      `wanted floats [${OUT}, rank], found F32 [6, 2]`,
    ],
    ["the rank", { up: [OUT, RANK + 1] }, `lora_up.weight" of`, `wanted floats [${OUT}, rank], found F32 [5, 3]`],
    ["the number of dimensions", { down: [RANK, IN, 1, 1] }, `lora_down.weight" of`, `found F32 [2, 7, 1, 1]`],
    ["a rank of nothing", { down: [0, IN], up: [OUT, 0] }, `lora_down.weight" of`, `found F32 [0, 7]`],
  ])("refuses %s when it does not fit", async (_, shapes: { up?: number[]; down?: number[] }, key, text) => {
    const lora = await checkpoint({
      [`${MODULE}.lora_up.weight`]: float32(shapes.up ?? [OUT, RANK]),
      [`${MODULE}.lora_down.weight`]: float32(shapes.down ?? [RANK, IN]),
    });
    const error = await matchLora(lora, model).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "QEDIT_E_LORA" });
    expect((error as Error).message).toContain(`${MODULE}.${key}`);
    expect((error as Error).message).toContain(text);
  });

  test("refuses integer matrices, an alpha of several numbers, and one that is not a number", async () => {
    expect(
      await failure({
        ...pair(MODULE),
        [`${MODULE}.lora_up.weight`]: tensor("int32", [OUT, RANK], new Int32Array(OUT * RANK)),
      }),
    ).toMatchObject({ code: "QEDIT_E_LORA" });
    expect(await failure({ ...pair(MODULE), [`${MODULE}.alpha`]: float32([2]) })).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringContaining("wanted a number, found F32 [2]"),
    });
    expect(await failure({ ...pair(MODULE), [`${MODULE}.alpha`]: float32([], Float32Array.of(NaN)) })).toMatchObject({
      message: expect.stringContaining("found NaN"),
    });
  });

  test("refuses half a pair by the name of the other half", async () => {
    expect(await failure({ [`${MODULE}.lora_up.weight`]: up })).toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringContaining(`Cannot find "${MODULE}.lora_down.weight" beside "${MODULE}.lora_up.weight"`),
    });
  });
});

test.each(["lightning_lora_bf16", "lightning_lora_fp32"] as const)(
  "%s fits the published transformer in all its 720 modules",
  async (name) => {
    await sparseCheckpoint(path("transformer.safetensors"), publishedTensors("qwen_image_edit_2509_fp8_e4m3fn"));
    await sparseCheckpoint(path(`${name}.safetensors`), publishedTensors(name));
    const match = await matchLora(
      await readSafetensors(path(`${name}.safetensors`)),
      await readSafetensors(path("transformer.safetensors")),
    );
    expect(match.unmatched).toEqual([]);
    expect(matchTable(match)).toEqual(["matched 720/720 modules, rank 64, alpha 0, layout kohya, no prefix"]);
  },
);

describe("an alpha that lies beside the matrices", () => {
  const PEFT = PAIR_LAYOUTS.find(({ name }) => name === "PEFT")!;
  const scaleOf = async (config: object | string) => {
    const metadata = { lora_adapter_metadata: typeof config === "string" ? config : JSON.stringify(config) };
    return (await matchLora(await checkpoint(pair(`transformer.${MODULE}`, PEFT), metadata), model)).matched.get(
      MODULE,
    )!.scale;
  };

  test.each([
    ["of diffusers", { "transformer.lora_alpha": 3, "transformer.r": RANK }, 3 / RANK],
    ["without the prefix", { lora_alpha: 3, r: RANK }, 3 / RANK],
    ["of one module", { lora_alpha: 3, alpha_pattern: { "attn.to_q": 8 } }, 8 / RANK],
    ["of another module", { lora_alpha: 3, alpha_pattern: { to_k: 8 } }, 3 / RANK],
    ["of an expression", { lora_alpha: 3, alpha_pattern: { "transformer_blocks\\.\\d+\\.attn\\.to_q": 8 } }, 8 / RANK],
    [
      "of the first that fits",
      { lora_alpha: 3, alpha_pattern: { ".*to_k": 4, "^.*(to_q|to_v)": 8, to_q: 2 } },
      8 / RANK,
    ],
    ["of an end that is no name", { lora_alpha: 3, alpha_pattern: { _q: 8, "to_[kv]": 8, "to_q.+": 8 } }, 3 / RANK],
    ["of rslora", { lora_alpha: 3, use_rslora: true }, 3 / Math.sqrt(RANK)],
    ["that is none", { lora_alpha: null }, 1],
    ["in something else", "not JSON", 1],
  ])("%s counts", async (_, config, wanted) => {
    expect(await scaleOf(config)).toBeCloseTo(wanted, 12);
  });

  test.each(["(a*)*", "(a|a)+", "to_q{1}", "(?=to_q).*", "a*".repeat(4), "[z-a]", "("])(
    "by an expression %s that is not read is refused",
    async (pattern) => {
      await expect(scaleOf({ lora_alpha: 3, alpha_pattern: { [pattern]: 8 } })).rejects.toMatchObject({
        code: "QEDIT_E_LORA",
        message: expect.stringContaining(
          `has the alpha_pattern "${pattern}", a regular expression that qedit does not read`,
        ),
      });
    },
  );

  test("by more expressions than are tried in seconds is refused", async () => {
    for (const [count, pattern] of [
      [65, ".*"],
      [4097, "layer"],
    ] as const) {
      const patterns = Object.fromEntries(Array.from({ length: count }, (_, index) => [pattern + index, 8]));
      await expect(scaleOf({ lora_alpha: 3, alpha_pattern: patterns })).rejects.toThrow(
        `has ${count} of alpha_pattern`,
      );
    }
  });

  test("yields to one in the file", async () => {
    const tensors = {
      ...pair(`transformer.${MODULE}`, PEFT),
      [`transformer.${MODULE}.alpha`]: float32([], Float32Array.of(5)),
    };
    const { matched } = await matchLora(
      await checkpoint(tensors, { lora_adapter_metadata: '{"lora_alpha":3}' }),
      model,
    );
    expect(matched.get(MODULE)!.scale).toBe(5 / RANK);
  });

  test.each(['{"lora_alpha":"16"}', '{"lora_alpha":3,"alpha_pattern":{"to_q":[1]}}'])(
    "that is no number is refused: %s",
    async (config) => {
      const lora = await checkpoint(pair(`transformer.${MODULE}`, PEFT), { lora_adapter_metadata: config });
      await expect(matchLora(lora, model)).rejects.toMatchObject({
        code: "QEDIT_E_LORA",
        message: expect.stringMatching(/its configuration has ("16"|\[1\]) for .*to_q, where a number is wanted$/),
      });
    },
  );

  test("in PEFT's adapter_config.json is found beside the file, by the folder or by the file", async () => {
    const folder = path("peft");
    await mkdir(folder);
    await writeSafetensors(join(folder, "adapter_model.safetensors"), pair(`base_model.model.${MODULE}`, PEFT));
    await writeFile(join(folder, "adapter_config.json"), '{"peft_type":"LORA","lora_alpha":6,"r":2}');
    for (const named of [folder, join(folder, "adapter_model.safetensors")]) {
      expect((await matchLora(await openLora(named), model)).matched.get(MODULE)!.scale).toBe(6 / RANK);
    }
  });

  const PEFT_CONFIG = '{"peft_type":"LORA","lora_alpha":6,"r":2}';
  const openBeside = async (config: string, metadata: Record<string, string> = {}) => {
    const folder = path(`peft-${files++}`);
    await mkdir(folder);
    const tensors = pair(`base_model.model.${MODULE}`, PEFT);
    await writeSafetensors(join(folder, "adapter_model.safetensors"), tensors, metadata);
    await writeFile(join(folder, "adapter_config.json"), config);
    return openLora(folder);
  };

  test.each([
    ["with a byte order mark", `\uFEFF${PEFT_CONFIG}`, {}],
    ["beside a note of another tool", PEFT_CONFIG, { lora_adapter_metadata: "not JSON" }],
  ])("in adapter_config.json is read %s", async (_, config, metadata) => {
    const lora = await openBeside(config, metadata);
    expect((await matchLora(lora, model)).matched.get(MODULE)!.scale).toBe(6 / RANK);
  });

  test.each([
    ["cut off", PEFT_CONFIG.slice(0, -8), "something else", "Download it again"],
    ["empty", "", "an empty file", "Download it again"],
    ["a list", "[]", "something else", "Download it again"],
    [
      "a pointer of Git LFS",
      "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n",
      "a pointer of Git LFS",
      "git lfs pull",
    ],
  ])("in an adapter_config.json that is %s is refused", async (_, config, found, hint) => {
    await expect(openBeside(config)).rejects.toMatchObject({
      code: "QEDIT_E_LORA",
      message: expect.stringMatching(
        new RegExp(`adapter_config\\.json: wanted PEFT's configuration as a JSON object, found ${found}$`),
      ),
      hint: expect.stringContaining(hint),
    });
  });

  test("in an adapter_config.json that leads to a device without an end is refused", async () => {
    const { file: folder } = await openBeside(PEFT_CONFIG);
    const beside = join(folder, "adapter_config.json");
    await rm(beside);
    await symlink("/dev/zero", beside);
    await expect(openLora(folder)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringContaining("adapter_config.json: it is a device"),
    });
  });
});

test("a DoRA by its configuration is refused where a module lacks its magnitudes", async () => {
  const metadata = { lora_adapter_metadata: '{"transformer.use_dora":true,"transformer.lora_alpha":2}' };
  const magnitudes = { [`${MODULE}.lora_magnitude_vector`]: float32([OUT]) };
  const whole = await checkpoint({ ...pair(MODULE), ...magnitudes }, metadata);
  expect((await matchLora(whole, model)).kinds).toEqual(["DoRA"]);
  await expect(matchLora(await checkpoint(pair(MODULE), metadata), model)).rejects.toMatchObject({
    code: "QEDIT_E_LORA",
    message: expect.stringContaining(`it is a DoRA (use_dora), and ${MODULE} has no magnitudes`),
  });
});
