// The minimal arithmetic of one step of the transformer: products of activations with weights, and attention.
import type { HeaderEntry } from "../../src/checkpoint/safetensors/safetensors-writer.js";

/** Lengths of the two streams. */
export interface StreamLengths {
  readonly text: number;
  /** Tokens of the target and of all references. */
  readonly image: number;
  readonly target: number;
}

/**
 * Floating point operations of one evaluation: two per weight and token, and 4·queries·S·width of attention for each block. Of the last block no
 * queries, outputs and feed-forward are needed but the target's.
 */
export function transformerFlops(
  tensors: readonly Pick<HeaderEntry, "name" | "shape">[],
  { text, image, target }: StreamLengths,
): number {
  const last = Math.max(...tensors.map(({ name }) => Number(/^transformer_blocks\.(\d+)\./.exec(name)?.[1] ?? -1)));
  let flops = 0;
  for (const { name, shape } of tensors) {
    if (shape.length !== 2) continue;
    const isLast = name.startsWith(`transformer_blocks.${last}.`);
    flops += 2 * shape[0]! * shape[1]! * tokensOf(name, { text, image, target }, isLast);
    // One for each block, beside its weights.
    if (name.endsWith(".attn.to_q.weight")) flops += 4 * (isLast ? target : text + image) * (text + image) * shape[0]!;
  }
  return flops;
}

function tokensOf(name: string, { text, image, target }: StreamLengths, isLast: boolean): number {
  if (/_mod\.|time_text_embed|norm_out/.test(name)) return 1;
  if (isLast && /\.(?:add_q_proj|to_add_out|txt_mlp\.[\w.]+)\.weight$/.test(name)) return 0;
  if (isLast && /\.(?:to_q|to_out\.0|img_mlp\.[\w.]+)\.weight$/.test(name)) return target;
  if (/\.(?:add_[qkv]_proj|to_add_out|txt_mlp\.[\w.]+)\.weight$|^txt_in/.test(name)) return text;
  return name.startsWith("proj_out") ? target : image;
}
