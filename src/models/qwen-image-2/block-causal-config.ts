// Configuration of the transformer of Qwen-Image-2.1: what was published (diffusers 0.42.1, QwenImage21Transformer2DModel), overridden by what
// tensor shapes say, overridden by the checkpoint's own `config`.
import type { Weights } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import {
  blockCount,
  type ConfigJson,
  configNumber,
  configNumbers,
  configPositive,
  headCount,
  refuseOtherSizes,
} from "../config-json.js";

/** Configuration of a transformer. */
export interface TransformerConfig {
  readonly blocks: number;
  readonly heads: number;
  readonly headDim: number;
  /** Head dimensions rotated by the frame, row and column of a token (axes_dims_rope). */
  readonly ropeAxes: readonly number[];
  /** Width of a prompt embedding. */
  readonly textWidth: number;
  /** Channels of a latent: a token is one of its cells. */
  readonly channels: number;
  readonly epsilon: number;
}

const PUBLISHED = { ropeAxes: [16, 56, 56], epsilon: 1e-6 };

/** Rows of the shared modulation: scale and gate of the attention, then of the feed-forward, each [width]. */
const MODULATION_VECTORS = 4;

/** Whether a file is of this family: no other one normalises the text inside txt_in, or modulates all blocks by one linear. */
export function isQwenImage2(w: Weights): boolean {
  return w.has("txt_in.text_norm.weight") && w.has("modulation.1.weight");
}

/** Reads the configuration of a transformer; throws QEDIT_E_CHECKPOINT for one of this family that works differently. */
export function transformerConfig(w: Weights, config: ConfigJson): TransformerConfig {
  const [width, channels] = w.shape("img_in.weight") as [number, number];
  const headDim = w.shape("transformer_blocks.0.attn.norm_q.weight")[0]!;
  const heads = headCount("img_in", width, headDim);
  const textWidth = w.shape("txt_in.text_norm.weight")[0]!;
  refuseOtherSizes(w, config, {
    attention_head_dim: headDim,
    num_attention_heads: heads,
    in_channels: channels,
    context_in_dim: textWidth,
  });
  const ropeAxes = configNumbers(config, "axes_dims_rope", PUBLISHED.ropeAxes);
  const refuse = (reason: string, hint?: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${w.file} as the transformer: ${reason}`, {
      hint: hint ?? `Give a transformer of Qwen-Image-2.1: ${param("transformer", "qwen_image_2.1_bf16.safetensors")}`,
    });
  if (ropeAxes.reduce((sum, axis) => sum + axis, 0) !== headDim)
    throw refuse(
      `rope axes ${ropeAxes.join(" + ")} do not add up to heads of ${headDim}`,
      "Put the model's config.json, with axes_dims_rope, under the safetensors metadata key `config`",
    );
  if (config["causal_condition"] === false)
    throw refuse("its text and references are modulated by the noise level (causal_condition false)");
  const patchSize = configNumber(config, "patch_size", 1);
  if (patchSize !== 1) throw refuse(`its tokens are ${patchSize} × ${patchSize} latent cells, one is computed`);
  const rows = w.shape("modulation.1.weight")[0]!;
  if (rows !== MODULATION_VECTORS * width)
    throw refuse(`its modulation has ${rows} rows, ${MODULATION_VECTORS * width} are wanted`);
  return {
    blocks: blockCount(w, config, { list: "transformer_blocks", key: "num_layers" }),
    heads,
    headDim,
    ropeAxes,
    textWidth,
    channels,
    epsilon: configPositive(config, "eps", PUBLISHED.epsilon),
  };
}
