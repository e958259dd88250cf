// Other spellings of the published keys: diffusers' names of the VAE, and transformers' nested names of the text encoder. All renaming
// lives here: what comes out has the keys of the single files published for ComfyUI, which the models read.
import { QeditError } from "../std/errors.js";
import type { Checkpoint, StoredTensor } from "./checkpoint.js";
import { stripPrefix } from "./safetensors/safetensors.js";

/** Parts of a model, by the names of their folders in diffusers' layout. */
export type ModelPart = "vae" | "text_encoder" | "transformer";

/** A checkpoint under the published keys of its part; one that has them already comes back as it is. */
export function publishedNames(checkpoint: Checkpoint, part: ModelPart): Checkpoint {
  return { vae: vaeNames, text_encoder: textEncoderNames, transformer: stripPrefix }[part](checkpoint);
}

// transformers nests the two towers of newer files: model.language_model.layers…, model.visual.blocks…
function textEncoderNames(checkpoint: Checkpoint): Checkpoint {
  const isNested = [...checkpoint.tensors.keys()].some((name) => name.startsWith("model.language_model."));
  if (!isNested) return checkpoint;
  return renamed(checkpoint, (name) =>
    name.replace(/^model\.language_model\./, "model.").replace(/^model\.visual\./, "visual."),
  );
}

// AutoencoderKLQwenImage of diffusers: the layers of Wan 2.1's VAE, counted per level where Wan counts through all levels.
function vaeNames(checkpoint: Checkpoint): Checkpoint {
  if (!checkpoint.tensors.has("decoder.conv_in.weight") || !checkpoint.tensors.has("quant_conv.weight"))
    return checkpoint;
  const layers = upsampleLayers([...checkpoint.tensors.keys()]);
  return renamed(checkpoint, (name) => vaeName(name, layers));
}

const OUTER: readonly (readonly [from: RegExp, to: string])[] = [
  [/^quant_conv\./, "conv1."],
  [/^post_quant_conv\./, "conv2."],
  [/^(encoder|decoder)\.conv_in\./, "$1.conv1."],
  [/^(encoder|decoder)\.norm_out\./, "$1.head.0."],
  [/^(encoder|decoder)\.conv_out\./, "$1.head.2."],
  [/^encoder\.down_blocks\./, "encoder.downsamples."],
  [/^(encoder|decoder)\.mid_block\.resnets\.0\./, "$1.middle.0."],
  [/^(encoder|decoder)\.mid_block\.attentions\.0\./, "$1.middle.1."],
  [/^(encoder|decoder)\.mid_block\.resnets\.1\./, "$1.middle.2."],
];

const INNER: readonly (readonly [from: RegExp, to: string])[] = [
  [/\.norm1\.gamma$/, ".residual.0.gamma"],
  [/\.conv1\.(weight|bias)$/, ".residual.2.$1"],
  [/\.norm2\.gamma$/, ".residual.3.gamma"],
  [/\.conv2\.(weight|bias)$/, ".residual.6.$1"],
  [/\.conv_shortcut\./, ".shortcut."],
];

/** Layers of `up_blocks.N`: its residual blocks, then an upsampler. */
const UP_LAYER = /^decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\./;

function vaeName(name: string, layers: ReadonlyMap<string, number>): string {
  const outer = name
    .replace(UP_LAYER, (start) => `decoder.upsamples.${layers.get(start)}.`)
    .replace(...(OUTER.find(([from]) => from.test(name)) ?? [/^$/, ""]));
  // The outermost convolutions are called conv1 and conv2 already.
  if (!/^(encoder|decoder)\.(downsamples|middle|upsamples)\./.test(outer)) return outer;
  return INNER.reduce((inner, [from, to]) => inner.replace(from, to), outer);
}

// The number that Wan gives to each layer of the decoder's way up, by the start of diffusers' names.
function upsampleLayers(names: readonly string[]): ReadonlyMap<string, number> {
  const found = new Map(
    names.flatMap((name) => {
      const match = UP_LAYER.exec(name);
      return match
        ? [
            [
              match[0],
              { block: Number(match[1]), isUpsampler: match[2] === "upsamplers", index: Number(match[3]) },
            ] as const,
          ]
        : [];
    }),
  );
  const ordered = [...found].sort(
    ([, a], [, b]) => a.block - b.block || Number(a.isUpsampler) - Number(b.isUpsampler) || a.index - b.index,
  );
  return new Map(ordered.map(([start], layer) => [start, layer]));
}

function renamed(checkpoint: Checkpoint, rename: (name: string) => string): Checkpoint {
  const tensors = new Map<string, StoredTensor>();
  for (const [name, stored] of checkpoint.tensors) {
    const published = rename(name);
    if (tensors.has(published))
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot read ${checkpoint.file}: two of its tensors mean "${published}"`,
      );
    tensors.set(published, stored);
  }
  return { ...checkpoint, tensors };
}
