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

/** Keys of forms of adapters that qedit does not compute, and the names of these. */
const UNSUPPORTED: readonly (readonly [key: RegExp, form: string])[] = [
  [/\.dora_scale$|\.lora_magnitude_vector(\.|$)/, "DoRA"],
  [/(\.lora_(B|up)(\.\w+)?|[._]lora\.up|\.lora_linear_layer\.up)\.bias$/, "LoRA with biases"],
  [/\.lora_[AB]\.(?!weight$|bias$|default\.)\w+\.weight$/, "several adapters with names"],
  [/\.lora_mid\./, "LoCon with lora_mid"],
  [/\.lora_embedding_[AB](\.|$)/, "LoRA of embeddings"],
  [/\.reshape_weight$/, "LoRA with reshaped weights"],
  [/\.diff$/, "full differences"],
  [/\.diff_b$/, "bias differences"],
  [/\.set_weight$|\.modules_to_save\./, "replaced weights"],
  [/\.[wb]_norm$/, "norm differences"],
  [/\.hada_\w+(\.|$)/, "LoHa"],
  [/\.lokr_\w+(\.|$)/, "LoKr"],
  [/\.[ab][12]\.weight$/, "GLoRA"],
  [/\.b?oft_\w+(\.|$)|\.rescale$/, "OFT or BOFT"],
  [/\.vera_lambda_\w+(\.|$)/, "VeRA"],
  [/\.ia3_\w+(\.|$)|\.on_input$/, "IA3"],
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

/** What follows the module in the keys of pairs, and in those of the forms above. */
const ENDING =
  /(\.lora_(A|B|up|down|mid|magnitude_vector|linear_layer|embedding_[AB])|[._]lora\.(up|down))(\..*)?$|\.(alpha|dora_scale|reshape_weight|diff|diff_b|set_weight|[wb]_norm|rescale|on_input|[ab][12]\.weight|modules_to_save\..*|(hada|lokr|b?oft|vera_lambda|ia3)_.*)$/;

/** The module part of a key of a LoRA file: the key without the ending of any known form. */
export function moduleOf(key: string): string {
  return key.replace(ENDING, "");
}

/** Name of the form that a key belongs to when qedit does not compute that form. */
export function unsupportedForm(key: string): string | undefined {
  return UNSUPPORTED.find(([pattern]) => pattern.test(key))?.[1];
}
