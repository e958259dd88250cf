// Formats of quantised weights that qedit does not compute, by the names, types and texts that their tools leave in a file.
import { isObject } from "../std/guards.js";
import type { Checkpoint } from "./checkpoint.js";
import { isRotation } from "./rotation.js";
import { metadataObject } from "./safetensors/safetensors-header.js";
import { SCALE_NAMES } from "./weight-scales.js";

/** A tensor name that only one format has, and the format's name for messages. */
const BY_NAME: readonly (readonly [pattern: RegExp, format: string])[] = [
  [/\.(smooth_factor|smooth_factor_orig|wscales|wtscale|wcscales)$/, "SVDQuant, as of Nunchaku"],
  [/\.(absmax|quant_map|nested_absmax|nested_quant_map)$|\.quant_state\.bitsandbytes__/, "NF4 or FP4 of bitsandbytes"],
  [/\.(SCB|weight_format)$/, "INT8 of bitsandbytes"],
  [/\.g_idx$/, "GPTQ"],
  [/\.qzeros$/, "AWQ"],
  [/[._]weight_qdata$|\.weight:_?\w+$|\.tensor_impl\./, "torchao"],
  [/\.weight\._(data|scale|shift)$/, "quanto"],
  [/\.W_q$/, "HQQ"],
  [/\.(encoded_exponent|sign_mantissa)$/, "DFloat11"],
  [/\.weight_shape$/, "packed integers of compressed-tensors"],
  [/\.(weight_packed|weight_global_scale|weight_scale_2)$/, "NVFP4"],
  [/(?<!\.oft)_blocks$/, "MXFP4"],
  [/\.qweight$/, "packed integers (GPTQ, AWQ or SVDQuant)"],
];

/** Formats of ComfyUI's layers that are a number times a scale, and the settings of a layer that change nothing of that. */
const COMFY_SCALED = /^(float8_e4m3fn|float8_e5m2|int8)(_(tensor|row|block|channel|group)wise)?$/;
const COMFY_IDLE = [
  "format",
  "full_precision_matrix_mult",
  "group_size",
  "block_size",
  "orig_dtype",
  "scale_dtype",
  "convrot",
  "convrot_groupsize",
  "per_row",
  "per_channel",
  "is_weight",
  "orig_shape",
];
/** Columns of a rotated group, unless a layer says otherwise (comfy_kitchen/tensor/int8.py, TensorWiseINT8Layout.Params). */
export const ROTATED_GROUP = 256;
const COMFY_NAMES: Readonly<Record<string, string>> = {
  nvfp4: "NVFP4",
  mxfp8: "MXFP8",
  mxfp4: "MXFP4",
  asym_w4a8_int8: "W4A8, 4-bit codes of a codebook",
};

/** The name of the format of a checkpoint's weights if qedit does not compute it, such as `MXFP8`. */
export function packedFormat(checkpoint: Checkpoint): string | undefined {
  return comfyFormat(checkpoint) ?? torchaoFormat(checkpoint) ?? formatByType(checkpoint) ?? formatByName(checkpoint);
}

function comfyFormat({ layerFormats = [], metadata }: Checkpoint): string | undefined {
  const layers = metadataObject(metadata["_quantization_metadata"])?.["layers"];
  const described = typeof layers === "object" && layers !== null ? Object.values(layers) : [];
  for (const layer of [...layerFormats.map((text) => metadataObject(text)), ...described]) {
    const { format, ...others } = (layer ?? {}) as Record<string, unknown>;
    const known = COMFY_NAMES[String(format)];
    if (known !== undefined) return known;
    if (String(format).includes("convrot")) return "ConvRot, rotated INT4";
    if (others["convrot"] === true && rotationOf(layer) === undefined)
      return `ConvRot in groups of ${String(others["convrot_groupsize"]).slice(0, 40)} columns, or of other numbers than INT8`;
    if (typeof format !== "string" || !COMFY_SCALED.test(format)) {
      return `"${String(format).slice(0, 40)}", a layer format of ComfyUI`;
    }
    const unknown = Object.keys(others).find((key) => !COMFY_IDLE.includes(key) && Boolean(others[key]));
    if (unknown !== undefined) return `"${format}" with "${unknown.slice(0, 40)}", a layer format of ComfyUI`;
  }
  return undefined;
}

/** Columns of each group of a layer's weight that are rotated, by what ComfyUI says of its format; undefined where none are, or in no way that is known. */
export function rotationOf(layer: unknown): number | undefined {
  if (!isObject(layer) || layer["convrot"] !== true) return undefined;
  const { format, convrot_groupsize: group = ROTATED_GROUP } = layer;
  const isKnown = typeof format === "string" && /^int8(_tensorwise|_rowwise)?$/.test(format);
  return isKnown && typeof group === "number" && isRotation(group) ? group : undefined;
}

function torchaoFormat({ metadata }: Checkpoint): string | undefined {
  const isOne = Object.values(metadata).some((text) => /"_type"\s*:\s*"\w*Tensor"/.test(text.slice(0, 10_000)));
  return isOne ? "torchao" : undefined;
}

function formatByType({ tensors }: Checkpoint): string | undefined {
  for (const [name, { dtype }] of tensors) {
    if (dtype === "F4") return "NVFP4 or MXFP4";
    if (dtype.startsWith("F6_")) return "MXFP6";
    if (dtype.endsWith("FNUZ")) return `${dtype}, an 8-bit float of AMD`;
    const module = SCALE_NAMES.filter((each) => name.endsWith(`.${each}`)).map((each) =>
      name.slice(0, -each.length - 1),
    );
    const weight = module.map((each) => tensors.get(`${each}.weight`)).find((each) => each !== undefined);
    if (dtype === "F8_E8M0") return weight?.dtype === "U8" ? "MXFP4" : "MXFP8";
    // A scale of powers of two, written as bytes.
    if (dtype === "U8" && weight?.dtype.startsWith("F8_")) return "MXFP8";
    if (dtype.startsWith("F8_") && weight?.dtype === "U8") return "NVFP4";
  }
  return undefined;
}

function formatByName({ tensors, metadata }: Checkpoint): string | undefined {
  if (/svdq|nunchaku/i.test(metadata["quantization_config"] ?? "")) return BY_NAME[0]![1];
  const names = [...tensors.keys()];
  const known = BY_NAME.find(([pattern]) => names.some((name) => pattern.test(name)))?.[1];
  if (known !== undefined) return known;
  const packed = [...tensors].find(
    ([name, { dtype, shape }]) => name.endsWith(".weight") && shape.length === 2 && /^(U8|[IU](16|32|64))$/.test(dtype),
  );
  return packed && `numbers packed into ${packed[1].dtype}`;
}
