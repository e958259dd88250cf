// Networks of other models, by keys that only they have: so that a file of another one is refused by its name.

const NETWORKS: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/\.(lora_(A|B|up|down|linear_layer)|lora\.(up|down)|hada_w1_a|lokr_w1|dora_scale)\b|_lora\.(up|down)\./, "a LoRA"],
  [/(^|\.)controlnet_(blocks|cond_embedding|x_embedder)\.|^control_model\./, "a ControlNet"],
  [/(^|\.)txt_in\.text_norm\./, "a Qwen-Image-2.1 transformer"],
  [/(^|\.)transformer_blocks\.0\.attn\.add_q_proj\..*/, "a Qwen-Image or other diffusion transformer"],
  [/(^|\.)double_blocks\.0\./, "a FLUX or HunyuanVideo transformer"],
  [/(^|\.)joint_blocks\.0\./, "a Stable Diffusion 3 transformer"],
  [/(^|\.)(context_refiner|noise_refiner)\.0\./, "a Z-Image or Lumina transformer"],
  [/(^|\.)blocks\.0\.cross_attn\./, "a Wan transformer"],
  [/(^|\.)patchify_proj\./, "an LTX-Video transformer"],
  [
    /(^|\.)(input_blocks|down_blocks)\.0\.(0|attentions|resnets)\.|(^|\.)time_embed\.0\./,
    "a U-Net of Stable Diffusion",
  ],
  [/(^|\.)text_model\.encoder\.layers\.0\./, "a CLIP text encoder"],
  [/(^|\.)vision_model\.encoder\.layers\.0\./, "a CLIP or SigLIP vision encoder"],
  [/(^|\.)layers\.\d+\.linear_attn\./, "a Qwen3.5 language model, as the prompt enhancer of Qwen-Image-2.1 is one"],
  [/(^|\.)visual\.deepstack_merger_list\./, "a Qwen3-VL text encoder"],
  [/(^|\.)layers\.0\.self_attn\.q_norm\./, "a Qwen3 text encoder"],
  [/(^|\.)visual\.blocks\.0\.mlp\.fc1\./, "a Qwen2-VL text encoder"],
  [/(^|\.)layers\.0\.self_attn\.q_proj\./, "a language model"],
  [/^encoder\.block\.0\.layer\.0\.SelfAttention\./, "a T5 text encoder"],
  [/^(image_proj|ip_adapter)\./, "an IP-Adapter"],
  [/^(emb_params|clip_[lg]|t5xxl|string_to_param\..*)$/, "a textual inversion"],
  [/^conv_first\.|^(body|model\.1\.sub)\.0\.(rdb|RDB)1\./, "an upscaler (ESRGAN)"],
  [/^decoder\.upsamples\.0\.upsamples\.0\./, "the VAE of Wan 2.2"],
  [/^(encoder|decoder)\.middle\.0\.residual\./, "a VAE with the structure of Wan 2.1"],
  [/^decoder\.(up|up_blocks)\.0\.|^decoder\.mid\./, "a VAE of Stable Diffusion or FLUX"],
];

/** What the network is that has these keys, such as `a LoRA`; undefined when it is none of those known here. */
export function foreignNetwork(names: Iterable<string>): string | undefined {
  const keys = [...names];
  return NETWORKS.find(([pattern]) => keys.some((key) => pattern.test(key)))?.[1];
}
