// Configuration of the Qwen-Image transformer: what was published (Qwen/Qwen-Image-Edit-2509 transformer/config.json), overridden by what
// tensor shapes say, overridden by the checkpoint's own `config`.
import type { Weights } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import {
  blockCount,
  type ConfigJson,
  configNumber,
  configNumbers,
  headCount,
  OWN_CONFIG,
  refuseOtherSizes,
  refuseOtherWays,
} from "../config-json.js";
import { foreignNetwork } from "../foreign-networks.js";

/** Configuration of a transformer. */
export interface TransformerConfig {
  readonly blocks: number;
  readonly heads: number;
  readonly headDim: number;
  /** Head dimensions rotated by the frame, row and column of a token (axes_dims_rope). */
  readonly ropeAxes: readonly number[];
  /** Width of a prompt embedding. */
  readonly textWidth: number;
  /** Values of one image token: channels · patch · patch. */
  readonly patchWidth: number;
  /** Latent cells along one side of a token. */
  readonly patchSize: number;
  readonly epsilon: number;
  /** Whether reference tokens, which have no noise, are modulated as at timestep 0: Qwen-Image-Edit-2511 (zero_cond_t). */
  readonly referencesAtZero: boolean;
  /** Whether references lie beside each other in one frame; when left out, each has a frame of its own. */
  readonly referencesInOneFrame?: true;
}

/** An empty tensor that marks transformers whose references are at timestep 0, where there is no config.json to say so. */
const ZERO_MARKER = "__index_timestep_zero__";

const PUBLISHED = { patchSize: 2, ropeAxes: [16, 56, 56], epsilon: 1e-6 };
/** The tiny model inside the package, which other tools may write without its config: recognised by its width and that of its heads. */
const EMBEDDED = { width: 320, headDim: 32, ropeAxes: [8, 12, 12] };

/** Keys that only relatives of Qwen-Image have, whose mathematics differ. */
const RELATIVES = [
  { key: "time_text_embed.addition_t_embedding.weight", option: "use_additional_t_cond", name: "Qwen-Image-Layered" },
];

/** Reads the configuration of a transformer, with the method that the file is made for unless another is given; throws QEDIT_E_CHECKPOINT when the file is of another family or release. */
export function transformerConfig(
  w: Weights,
  config: ConfigJson,
  { referenceMethod }: { readonly referenceMethod?: string | undefined } = {},
): TransformerConfig {
  if (!w.has("txt_norm.weight") || !w.has("img_in.weight")) {
    const network = foreignNetwork(w.names());
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file} as the transformer: it has no txt_norm and img_in, so it is not of the Qwen-Image family${network === undefined ? "" : `, but ${network}`}`,
      {
        hint: `Give a Qwen-Image-Edit transformer: ${param("transformer", "qwen_image_edit_2509_fp8_e4m3fn.safetensors")}`,
      },
    );
  }
  for (const { key, option, name } of RELATIVES) {
    if (w.has(key) || config[option] === true) {
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use ${w.file} as the transformer: it is of ${name}, which works differently from Qwen-Image-Edit`,
      );
    }
  }
  const [width, patchWidth] = w.shape("img_in.weight") as [number, number];
  const headDim = w.shape("transformer_blocks.0.attn.norm_q.weight")[0]!;
  const heads = headCount("img_in", width, headDim);
  const textWidth = w.shape("txt_norm.weight")[0]!;
  refuseOtherSizes(w, config, {
    attention_head_dim: headDim,
    num_attention_heads: heads,
    in_channels: patchWidth,
    joint_attention_dim: textWidth,
  });
  refuseOtherWays(w, config, { guidance_embeds: [false], use_layer3d_rope: [false] });
  const ropeAxes = configNumbers(
    config,
    "axes_dims_rope",
    (width === EMBEDDED.width && headDim === EMBEDDED.headDim ? EMBEDDED : PUBLISHED).ropeAxes,
  );
  if (ropeAxes.reduce((sum, axis) => sum + axis, 0) !== headDim) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file} as the transformer: rope axes ${ropeAxes.join(" + ")} do not add up to heads of ${headDim}`,
      {
        hint: "Put the model's config.json, with axes_dims_rope, under the safetensors metadata key `config`",
      },
    );
  }
  return {
    blocks: blockCount(w, config, { list: "transformer_blocks", key: "num_layers" }),
    heads,
    headDim,
    ropeAxes,
    textWidth,
    patchWidth,
    patchSize: patchSize(w, config, patchWidth),
    epsilon: PUBLISHED.epsilon,
    referencesAtZero:
      referenceMethod === undefined
        ? w.has(ZERO_MARKER) || config["zero_cond_t"] === true
        : referenceMethod === "index_timestep_zero",
    ...((referenceMethod === "offset" || referenceMethod === "uxo") && { referencesInOneFrame: true }),
  };
}

// A token is a square of latent cells, which have whole channels.
function patchSize(w: Weights, config: ConfigJson, patchWidth: number): number {
  const side = configNumber(config, "patch_size", PUBLISHED.patchSize);
  if (side >= 1 && Number.isInteger(side) && patchWidth % side ** 2 === 0) return side;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the transformer: its tokens of ${patchWidth} numbers cannot be ${side} × ${side} latent cells (patch_size)`,
    { hint: OWN_CONFIG },
  );
}

/** Whether a transformer reads no tensor of this name: markers without elements. */
export function isIdleInTransformer(name: string): boolean {
  return name === ZERO_MARKER || name === "scaled_fp8";
}
