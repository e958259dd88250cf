// Identifies a checkpoint by its keys, types and shapes: which network it is, how it is stored, and whether qedit can run it.
import { type Checkpoint, elementsOf, type StoredType } from "../../checkpoint/checkpoint.js";
import { blockTypeOf } from "../../checkpoint/gguf/block-types.js";
import { adapterOverview } from "../../checkpoint/lora/file-modules.js";
import { moduleOf, unsupportedForm } from "../../checkpoint/lora/lora-layouts.js";
import { packedFormat } from "../../checkpoint/packed-formats.js";
import { type ModelPart, partsOfWhole, publishedNames, stripPrefix } from "../../checkpoint/published-names.js";
import { checkpointConfig } from "../../checkpoint/safetensors/safetensors.js";
import { isNarrow, scaleNameOf } from "../../checkpoint/weight-scales.js";
import { foreignNetwork } from "../../models/foreign-networks.js";

/** The network in a file; qedit does not run `other`. */
export type NetworkKind = "transformer" | "text-encoder" | "vae" | "lora" | "other";

/** What a checkpoint is. */
export interface Identity {
  readonly kind: NetworkKind;
  /** Display name of the network, with its size. */
  readonly network: string;
  /** Stored type of most elements, as safetensors names it. */
  readonly dtype: StoredType;
  /** Every stored type of the file. */
  readonly dtypes: readonly StoredType[];
  /** Whether 8-bit weights come with scales. */
  readonly isScaled: boolean;
  /** The format of the weights if it is one that qedit does not compute: `MXFP8`. */
  readonly format?: string;
  readonly parameters: number;
  /** Whether a text encoder has a vision tower. */
  readonly hasVision?: boolean;
  readonly lora?: { readonly ranks: readonly number[]; readonly layout: string; readonly modules: number };
  /** Why qedit cannot run it, or other remarks. */
  readonly notes: readonly string[];
  /** Why qedit refuses to run it; undefined when it does not, or when it is not known from the header alone (see examine). */
  readonly refusal?: string;
}

/** Types of weights that graphs take. */
const RUNNABLE: readonly StoredType[] = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64", "I8", "INT8", "INT4"];
/** Keys of the feed-forward of Qwen-Image-2.1's transformer, which no other one has. */
const QWEN_IMAGE_21_MODULE = /transformer_blocks[._]\d+[._]img_mlp[._](gate_layer|gate_up|proj|out)([._]|$)/;
/** Keys that only the transformers of the Qwen-Image family have among those that LoRAs are made for. */
const QWEN_IMAGE_MODULE = /transformer_blocks[._]\d+[._](attn[._](add_[qkv]_proj|to_add_out)|(img|txt)_(mlp|mod))/;
/** Keys that other transformers of diffusers have too, as trainers' own choice of modules is. */
const SHARED_MODULE = /(?<!single_)transformer_blocks[._]\d+[._]attn[._]to_([qkv]|out[._]0)([._]|$)/;

/** Numbers a token that Qwen-Image-2.1's transformer takes of its text encoder, Qwen3-VL-8B. */
const QWEN_IMAGE_21_WIDTH = 4096;
/** Channels of its VAE's pictures. */
const RGBA = 4;

/** What a file may hold beside a transformer, for its note. */
const OTHER_PARTS: Partial<Record<ModelPart, string>> = { vae: "the VAE", text_encoder: "the text encoder" };

/** Identifies a checkpoint, whose keys are as stored in the file. */
export function identify(checkpoint: Checkpoint): Identity {
  const facts = storedFacts(checkpoint);
  const found =
    loraFacts(checkpoint) ??
    transformerFacts(checkpoint) ??
    textEncoderFacts(checkpoint) ??
    vaeFacts(checkpoint) ??
    visionFacts(checkpoint) ??
    packedFacts(checkpoint);
  if (!found) return { ...facts, kind: "other", ...otherFacts(checkpoint) };
  const packed =
    found.kind === "lora" || facts.format !== undefined || RUNNABLE.includes(facts.dtype) || blockTypeOf(facts.dtype)
      ? []
      : [`weights stored as ${facts.dtype}, which qedit does not run`];
  return { ...facts, ...found, notes: [...found.notes, ...packed] };
}

type Facts = Pick<Identity, "kind" | "network" | "notes"> & Partial<Identity>;

function storedFacts(
  checkpoint: Checkpoint,
): Pick<Identity, "dtype" | "dtypes" | "isScaled" | "parameters"> & Partial<Identity> {
  const { tensors } = checkpoint;
  const elements = new Map<StoredType, number>();
  let parameters = 0;
  for (const stored of tensors.values()) {
    const { dtype } = stored;
    const count = elementsOf(stored);
    elements.set(dtype, (elements.get(dtype) ?? 0) + count);
    parameters += count;
  }
  const format = packedFormat(checkpoint);
  const dtypes = [...elements].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype);
  return {
    dtype: dtypes[0] ?? "F32",
    dtypes,
    isScaled: [...tensors].some(([name, stored]) => isNarrow(stored) && scaleNameOf(tensors, name) !== undefined),
    parameters,
    ...(format === undefined ? {} : { format }),
  };
}

function loraFacts({ tensors }: Checkpoint): Facts | undefined {
  const names = [...tensors.keys()];
  const found = adapterOverview(tensors);
  const forms = new Set(names.flatMap((name) => unsupportedForm(name) ?? []));
  if (found.layouts.length === 0 && forms.size === 0) return undefined;
  const layout = found.layouts.join(" and ") || [...forms].join(", ");
  const isOfLater = names.some((name) => QWEN_IMAGE_21_MODULE.test(name));
  const inBlocks = names.filter((name) => name.includes("transformer_blocks"));
  const isShared = inBlocks.length > 0 && inBlocks.every((name) => SHARED_MODULE.test(name));
  const isOurs = isOfLater || isShared || names.some((name) => QWEN_IMAGE_MODULE.test(name));
  const family = isOfLater
    ? "Qwen-Image-2.1"
    : `Qwen-Image and its Edit releases${isShared ? ", or another model with such blocks" : ""}`;
  const notes = [...forms].map((form) => `holds ${form}, which qedit does not compute`);
  return {
    kind: "lora",
    network: `${found.kinds.join(" and ") || "LoRA"} for ${isOurs ? family : "another model"}`,
    lora: { ranks: found.ranks, layout, modules: new Set(names.map(moduleOf)).size },
    notes: isOurs ? notes : ["fits no transformer that qedit runs", ...notes],
    ...(isOurs && notes.length > 0 ? { refusal: notes.join("; ") } : {}),
  };
}

function transformerFacts(checkpoint: Checkpoint): Facts | undefined {
  const { tensors } = stripPrefix(checkpoint);
  if (tensors.has("controlnet_blocks.0.weight")) return undefined;
  const others = partsOfWhole(checkpoint).flatMap((part) => OTHER_PARTS[part] ?? []);
  const notes = others.length > 0 ? [`all in one: holds ${others.join(" and ")} too`] : [];
  if (tensors.has("txt_in.text_norm.weight") && tensors.has("transformer_blocks.0.attn.to_q.weight"))
    return {
      kind: "transformer",
      network: `Qwen-Image-2.1 or Turbo transformer, ${countOf(tensors.keys(), /^transformer_blocks\.(\d+)\./)} blocks`,
      notes,
    };
  if (
    !tensors.has("txt_norm.weight") ||
    !tensors.has("img_in.weight") ||
    !tensors.has("transformer_blocks.0.attn.to_q.weight")
  )
    return undefined;
  const blocks = countOf(tensors.keys(), /^transformer_blocks\.(\d+)\./);
  const isLater = tensors.has("__index_timestep_zero__") || safeConfig(checkpoint)["zero_cond_t"] === true;
  if (tensors.has("time_text_embed.addition_t_embedding.weight")) {
    return {
      kind: "transformer",
      network: `Qwen-Image-Layered transformer, ${blocks} blocks`,
      notes: ["works differently from Qwen-Image-Edit: qedit cannot run it"],
    };
  }
  const release = isLater ? "Qwen-Image-Edit-2511" : "Qwen-Image or Qwen-Image-Edit";
  return { kind: "transformer", network: `${release} transformer, ${blocks} blocks`, notes };
}

function textEncoderFacts(checkpoint: Checkpoint): Facts | undefined {
  const { tensors } = publishedNames(checkpoint, "text_encoder");
  const query = tensors.get("model.layers.0.self_attn.q_proj.weight");
  // Qwen 2 and 2.5 have biases here, Qwen3 norms instead, other families neither.
  const isLater = tensors.has("model.layers.0.self_attn.q_norm.weight");
  if (!query || tensors.has("model.layers.0.self_attn.q_proj.bias") === isLater) return undefined;
  const names = [...tensors.keys()];
  const hasVision = names.some((name) => name.startsWith("visual."));
  const layers = countOf(names, /^model\.layers\.(\d+)\./);
  const width = query.shape[1]!;
  const other = `gives ${width} numbers a token, Qwen-Image-2.1 takes ${QWEN_IMAGE_21_WIDTH}`;
  return {
    kind: "text-encoder",
    network: `Qwen${isLater ? "3" : "2.5"}${hasVision ? "-VL" : ""} text encoder, ${layers} layers of ${width}`,
    hasVision,
    notes: [
      ...(hasVision ? [] : ["has no vision weights: it cannot see pictures"]),
      ...(isLater && width !== QWEN_IMAGE_21_WIDTH ? [other] : []),
    ],
  };
}

// Beside a language model as GGUF: llama.cpp writes the two apart.
function visionFacts({ tensors }: Checkpoint): Facts | undefined {
  const isLater = tensors.has("visual.merger.norm.weight");
  if (!isLater && !tensors.has("visual.merger.ln_q.weight")) return undefined;
  const blocks = countOf(tensors.keys(), /^visual\.blocks\.(\d+)\./);
  return {
    kind: "other",
    network: `Qwen${isLater ? "3" : "2.5"}-VL vision tower (mmproj), ${blocks} blocks`,
    notes: ["belongs in the folder of its text encoder, which finds it there"],
  };
}

function vaeFacts(checkpoint: Checkpoint): Facts | undefined {
  const { tensors } = publishedNames(checkpoint, "vae");
  const latent = tensors.get("conv2.weight");
  const image = tensors.get("encoder.conv1.weight");
  // Wan 2.2's has levels as well, but takes 2 × 2 pixels as channels.
  if (latent && tensors.has("decoder.upsamples.0.upsamples.0.residual.2.weight") && image?.shape[1] === RGBA)
    return { kind: "vae", network: `Qwen-Image-2.1 VAE, ${latent.shape[1]} latent channels`, notes: [] };
  if (
    !latent ||
    !tensors.has("decoder.middle.0.residual.2.weight") ||
    !tensors.has("encoder.downsamples.0.residual.2.weight")
  )
    return undefined;
  return {
    kind: "vae",
    network: `Qwen-Image VAE (the structure of Wan 2.1), ${latent.shape[1]} latent channels`,
    notes: image?.shape[1] === 3 ? [] : [`takes pictures of ${image?.shape[1]} channels, 3 are wanted`],
  };
}

// Packed weights have names of their own, so that the networks are known by other tensors only.
function packedFacts(checkpoint: Checkpoint): Facts | undefined {
  const format = packedFormat(checkpoint);
  if (format === undefined) return undefined;
  const names = [...checkpoint.tensors.keys()];
  const has = (pattern: RegExp) => names.some((name) => pattern.test(name));
  if (has(/(^|\.)transformer_blocks\.0\./))
    return { kind: "transformer", network: "a diffusion transformer", notes: [] };
  if (has(/(^|\.)layers\.0\.self_attn\./)) return { kind: "text-encoder", network: "a text encoder", notes: [] };
  return undefined;
}

function otherFacts({ tensors }: Checkpoint): Pick<Identity, "network" | "notes"> {
  const network = foreignNetwork(tensors.keys());
  return network === undefined
    ? { network: "not of a model that qedit runs", notes: [] }
    : { network, notes: ["not of a model that qedit runs"] };
}

// Those from 0 on, as networks count their blocks.
function countOf(names: Iterable<string>, pattern: RegExp): number {
  const numbers = new Set([...names].flatMap((name) => pattern.exec(name)?.[1] ?? []));
  let count = 0;
  while (numbers.has(String(count))) count += 1;
  return count;
}

// A config that is no JSON is reported when the file is run.
function safeConfig(checkpoint: Checkpoint): Readonly<Record<string, unknown>> {
  try {
    return checkpointConfig(checkpoint);
  } catch {
    return {};
  }
}
