// Other spellings of the published keys: prefixes of the transformer, diffusers' names of the VAE, and transformers' nested names of the
// text encoder. All renaming lives here: what comes out has the keys of the single files published for ComfyUI, which the models read.
import { QeditError } from "../std/errors.js";
import { isObject } from "../std/guards.js";
import type { Checkpoint, StoredTensor } from "./checkpoint.js";
import { metadataObject } from "./safetensors/safetensors-header.js";

/** Parts of a model, by the names of their folders in diffusers' layout. */
export type ModelPart = "vae" | "text_encoder" | "transformer";

/** A checkpoint under the published keys of its part; one that has them already comes back as it is. Of a whole model in one file, only the part comes. */
export function publishedNames(checkpoint: Checkpoint, part: ModelPart): Checkpoint {
  const own = partOfWhole(checkpoint, part);
  return { vae: vaeNames, text_encoder: textEncoderNames, transformer: stripPrefix }[part](own);
}

/** Where a file with a whole model keeps its parts: ComfyUI's save nodes (supported_models.py, *_key_prefix). */
const WHOLE: Readonly<Record<ModelPart, RegExp>> = {
  transformer: /^model\.diffusion_model\./,
  vae: /^(vae|first_stage_model)\./,
  text_encoder: /^(text_encoders|cond_stage_model)\./,
};
/** In front of the text encoder's own keys stand its name and, mostly, `transformer.`. */
const TEXT_ENCODER =
  /^((?:text_encoders|cond_stage_model)\..*?)(?:model\.)(?:language_model\.)?layers\.0\.input_layernorm\.weight$/;

/** The parts that a file holds under the prefixes of whole models; none of a file with one part. */
export function partsOfWhole({ tensors }: Checkpoint): readonly ModelPart[] {
  const names = [...tensors.keys()];
  const parts = (Object.keys(WHOLE) as ModelPart[]).filter((part) => names.some((name) => WHOLE[part].test(name)));
  return parts.length > 1 ? parts : [];
}

// The keys of the other parts go. What belongs to no part stays with the transformer, whose review names it.
function partOfWhole(checkpoint: Checkpoint, part: ModelPart): Checkpoint {
  const parts = partsOfWhole(checkpoint);
  if (!parts.includes(part)) return checkpoint;
  const isOwn = (name: string) =>
    part === "transformer" ? parts.every((each) => each === part || !WHOLE[each].test(name)) : WHOLE[part].test(name);
  const own = [...checkpoint.tensors].filter(([name]) => isOwn(name));
  const prefix = part === "transformer" ? "" : prefixOf(part, own);
  const { config, ...others } = checkpoint.metadata;
  const ownConfig = configOfPart(config, part);
  return {
    ...checkpoint,
    metadata: ownConfig === undefined ? others : { ...others, config: ownConfig },
    tensors: new Map(own.map(([name, stored]) => [name.startsWith(prefix) ? name.slice(prefix.length) : name, stored])),
  };
}

function prefixOf(part: "vae" | "text_encoder", own: readonly (readonly [string, StoredTensor])[]): string {
  const pattern = part === "vae" ? WHOLE.vae : TEXT_ENCODER;
  for (const [name] of own) {
    const found = pattern.exec(name);
    if (found) return part === "vae" ? found[0] : found[1]!;
  }
  return "";
}

// One configuration for each part under its name, else that of the transformer.
function configOfPart(text: string | undefined, part: ModelPart): string | undefined {
  const own = metadataObject(text)?.[part];
  if (isObject(own)) return JSON.stringify(own);
  return part === "transformer" ? text : undefined;
}

/** Prefixes that ComfyUI looks for in files of diffusion models (model_detection.py, unet_prefix_from_state_dict), then those of trainers. */
const DIFFUSION_PREFIXES = [
  ...["model.diffusion_model.", "model.model.", "net."],
  ...["diffusion_model.", "transformer.", "pipe.dit.", "dit.", "module."],
];
const FALLBACK_PREFIX = "model.";
/** A prefix counts when more keys than this carry it. */
const FEW_KEYS = 5;

/**
 * A diffusion model's checkpoint with keys as the model names them: takes off the most frequent of ComfyUI's prefixes, else `model.`; keys
 * without it stay as they are. Only for diffusion models: the keys of a text encoder start with `model.` by themselves.
 */
export function stripPrefix(checkpoint: Checkpoint): Checkpoint {
  const names = [...checkpoint.tensors.keys()];
  const counts = DIFFUSION_PREFIXES.map((prefix) => names.filter((name) => name.startsWith(prefix)).length);
  const most = Math.max(...counts);
  const prefix = most > FEW_KEYS ? (DIFFUSION_PREFIXES[counts.indexOf(most)] ?? FALLBACK_PREFIX) : FALLBACK_PREFIX;
  if (!names.some((name) => name.startsWith(prefix))) return checkpoint;
  // Those without the prefix come first: where both are there, the prefix says which is the model's.
  const others = [...checkpoint.tensors].filter(([name]) => !name.startsWith(prefix));
  const stripped = [...checkpoint.tensors].filter(([name]) => name.startsWith(prefix));
  return {
    ...checkpoint,
    tensors: new Map([...others, ...stripped.map(([name, stored]) => [name.slice(prefix.length), stored] as const)]),
  };
}

/**
 * Where files keep the layers of a text encoder: below what their tool puts in front (`thinker.`, `text_encoder.`, `module.`), and within that below
 * transformers' names of newer releases, of models inside others, or bare.
 */
const FIRST_LAYER =
  /^(.*?)(model\.language_model\.|language_model\.model\.|language_model\.|model\.|)layers\.0\.input_layernorm\.weight$/;

// Two towers: model.language_model.layers… and model.visual.blocks…, or language_model.model.layers… and visual.blocks….
function textEncoderNames(checkpoint: Checkpoint): Checkpoint {
  const found = firstMatch(checkpoint.tensors.keys(), FIRST_LAYER);
  if (found === undefined) return checkpoint;
  const [, front = "", nesting = ""] = found;
  const isVision = (name: string) => name.startsWith(`${front}model.visual.`);
  if (front === "" && nesting === "model." && ![...checkpoint.tensors.keys()].some(isVision)) return checkpoint;
  const own = (name: string) => {
    const inner = name.startsWith(front) ? name.slice(front.length) : name;
    if (isVision(name)) return inner.slice("model.".length);
    if (nesting !== "" && inner.startsWith(nesting)) return `model.${inner.slice(nesting.length)}`;
    if (nesting === "" && /^(layers|embed_tokens|norm)\./.test(inner)) return `model.${inner}`;
    return inner.replace(/^language_model\.lm_head\./, "lm_head.");
  };
  return renamed(checkpoint, own);
}

function firstMatch(names: Iterable<string>, pattern: RegExp): RegExpExecArray | undefined {
  for (const name of names) {
    const found = pattern.exec(name);
    if (found !== null) return found;
  }
  return undefined;
}

// AutoencoderKLQwenImage of diffusers: the layers of Wan 2.1's VAE, counted per level where Wan counts through all levels. AutoencoderKLQwenImage21:
// those of Wan 2.2's, whose levels both count.
function vaeNames(prefixed: Checkpoint): Checkpoint {
  const prefix = WHOLE.vae.exec(prefixed.tensors.keys().next().value ?? "")?.[0];
  const isPrefixed = prefix !== undefined && [...prefixed.tensors.keys()].every((name) => name.startsWith(prefix));
  const checkpoint = isPrefixed ? renamed(prefixed, (name) => name.slice(prefix.length)) : prefixed;
  if (!checkpoint.tensors.has("decoder.conv_in.weight") || !checkpoint.tensors.has("quant_conv.weight"))
    return checkpoint;
  const names = [...checkpoint.tensors.keys()];
  const layers = names.some((name) => DOWN_LEVEL.test(name)) ? levelLayers(names) : upsampleLayers(names);
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

/** A layer of a level of AutoencoderKLQwenImage21: its residual blocks, then one that resamples. */
const LEVEL_LAYER = /^(encoder\.down|decoder\.up)_blocks\.(\d+)\.(?:resnets\.(\d+)|(downsampler|upsampler))\./;
/** Of AutoencoderKLQwenImage, levels of the encoder have no names of their own. */
const DOWN_LEVEL = /^encoder\.down_blocks\.\d+\.resnets\./;

function vaeName(name: string, layers: ReadonlyMap<string, string>): string {
  const start = UP_LAYER.exec(name)?.[0] ?? LEVEL_LAYER.exec(name)?.[0] ?? "";
  const outer = name
    .replace(start, layers.get(start) ?? start)
    .replace(...(OUTER.find(([from]) => from.test(name)) ?? [/^$/, ""]));
  // The outermost convolutions are called conv1 and conv2 already.
  if (!/^(encoder|decoder)\.(downsamples|middle|upsamples)\./.test(outer)) return outer;
  return INNER.reduce((inner, [from, to]) => inner.replace(from, to), outer);
}

// What Wan 2.2 calls each layer of a level, by the start of diffusers' names: `encoder.downsamples.1.downsamples.2.`. The one that resamples comes last.
function levelLayers(names: readonly string[]): ReadonlyMap<string, string> {
  const matches = names.flatMap((name) => {
    const match = LEVEL_LAYER.exec(name);
    return match ? [match] : [];
  });
  const blocks = new Map<string, number>();
  for (const [, half, level, block] of matches) {
    if (block === undefined) continue;
    const key = `${half}.${level}`;
    blocks.set(key, Math.max(blocks.get(key) ?? 0, Number(block) + 1));
  }
  return new Map(
    matches.map(([start, half = "", level, block]) => {
      const list = half === "encoder.down" ? "downsamples" : "upsamples";
      const side = half.slice(0, half.indexOf("."));
      return [start, `${side}.${list}.${level}.${list}.${block ?? blocks.get(`${half}.${level}`) ?? 0}.`] as const;
    }),
  );
}

// What Wan 2.1 calls each layer of the decoder's way up, by the start of diffusers' names.
function upsampleLayers(names: readonly string[]): ReadonlyMap<string, string> {
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
  return new Map(ordered.map(([start], layer) => [start, `decoder.upsamples.${layer}.`]));
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
