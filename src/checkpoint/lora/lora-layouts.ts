// The key spellings under which LoRA files name the modules of a diffusion model, in the order in which ComfyUI tries them.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy/lora.py (model_lora_keys_unet), comfy/weight_adapter/lora.py

/** Suffixes of the keys of a module's two matrices, and the usual name of files that have them. */
export interface PairLayout {
  readonly name: string;
  /** Suffix of the matrix [out, rank]. */
  readonly up: string;
  /** Suffix of the matrix [rank, in]. */
  readonly down: string;
}

/** Suffix pairs, first match wins. */
export const PAIR_LAYOUTS: readonly PairLayout[] = [
  { name: "kohya", up: ".lora_up.weight", down: ".lora_down.weight" },
  { name: "diffusers 0.1x", up: "_lora.up.weight", down: "_lora.down.weight" },
  { name: "PEFT", up: ".lora_B.weight", down: ".lora_A.weight" },
  { name: "diffusers", up: ".lora.up.weight", down: ".lora.down.weight" },
  { name: "Mochi", up: ".lora_B", down: ".lora_A" },
  { name: "transformers", up: ".lora_linear_layer.up.weight", down: ".lora_linear_layer.down.weight" },
  { name: "PEFT with adapter name", up: ".lora_B.default.weight", down: ".lora_A.default.weight" },
];

/** Suffix of the optional scalar that, divided by the rank, scales a module's product. */
export const ALPHA = ".alpha";

/** Suffixes of forms that qedit does not compute, with what they belong to. A module that has one of the first group is left out whole. */
export const UNSUPPORTED: readonly { readonly suffix: string; readonly name: string; readonly changesPair: boolean }[] =
  [
    { suffix: ".dora_scale", name: "DoRA", changesPair: true },
    { suffix: ".lora_mid.weight", name: "LoCon with lora_mid", changesPair: true },
    { suffix: ".reshape_weight", name: "reshaped weights", changesPair: true },
    { suffix: ".diff", name: "full differences", changesPair: false },
    { suffix: ".diff_b", name: "bias differences", changesPair: false },
    { suffix: ".set_weight", name: "replaced weights", changesPair: false },
    { suffix: ".w_norm", name: "norm differences", changesPair: false },
    { suffix: ".b_norm", name: "norm differences", changesPair: false },
    ...["w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"].map((part) => ({
      suffix: `.hada_${part}`,
      name: "LoHa",
      changesPair: false,
    })),
    ...["w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t2"].map((part) => ({
      suffix: `.lokr_${part}`,
      name: "LoKr",
      changesPair: false,
    })),
    ...["a1", "a2", "b1", "b2"].map((part) => ({ suffix: `.${part}.weight`, name: "GLoRA", changesPair: false })),
    { suffix: ".oft_blocks", name: "OFT or BOFT", changesPair: false },
  ];

/** The names under which a file may hold the LoRA of a module such as `transformer_blocks.0.attn.to_q`. */
export function baseNames(module: string): readonly { readonly prefix: string; readonly name: string }[] {
  const underscored = module.replaceAll(".", "_");
  return [
    { prefix: "", name: module },
    { prefix: "transformer.", name: `transformer.${module}` },
    { prefix: "diffusion_model.", name: `diffusion_model.${module}` },
    // PEFT itself, which ComfyUI does not take.
    { prefix: "base_model.model.", name: `base_model.model.${module}` },
    { prefix: "lora_unet_", name: `lora_unet_${underscored}` },
    { prefix: "lycoris_", name: `lycoris_${underscored}` },
  ];
}

/** The module part of a key of a LoRA file: the key without the ending of any known form. */
export function moduleOf(key: string): string {
  const suffixes = [
    ...PAIR_LAYOUTS.flatMap(({ up, down }) => [up, down]),
    ALPHA,
    ...UNSUPPORTED.map(({ suffix }) => suffix),
  ];
  const longest = suffixes.filter((suffix) => key.endsWith(suffix)).sort((a, b) => b.length - a.length)[0] ?? "";
  return key.slice(0, key.length - longest.length);
}

/** Name of the form that a key belongs to when qedit does not compute that form. */
export function unsupportedForm(key: string): string | undefined {
  return UNSUPPORTED.find(({ suffix }) => key.endsWith(suffix))?.name;
}
