// llama.cpp's names of Qwen2.5-VL's tensors, by the published ones (gguf-py/gguf/tensor_mapping.py); the parts of qkv and the frames of the patch are apart.

/** A start of published names, and llama.cpp's in its place. */
export const LLAMA_NAMES: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens\./, "token_embd."],
  [/^model\.norm\./, "output_norm."],
  [/^lm_head\./, "output."],
  [/^model\.layers\.(\d+)\.input_layernorm\./, "blk.$1.attn_norm."],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\./, "blk.$1.ffn_norm."],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\./, "blk.$1.attn_$2."],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\./, "blk.$1.attn_output."],
  [/^model\.layers\.(\d+)\.mlp\.(\w+)_proj\./, "blk.$1.ffn_$2."],
  [/^visual\.blocks\.(\d+)\.norm([12])\./, "v.blk.$1.ln$2."],
  [/^visual\.blocks\.(\d+)\.attn\.proj\./, "v.blk.$1.attn_out."],
  [/^visual\.blocks\.(\d+)\.mlp\.(\w+)_proj\./, "v.blk.$1.ffn_$2."],
  [/^visual\.merger\.ln_q\./, "v.post_ln."],
  [/^visual\.merger\.mlp\.([02])\./, "mm.$1."],
];
