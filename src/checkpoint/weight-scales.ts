// Scales of weights stored in 8 bits: how files spell them, and which part of a weight each number is for. The stored number times the scale is
// the weight, whatever the name says of inverses: so do ComfyUI (`scale_weight`, `weight_scale`), compressed-tensors and ModelOpt
// (`weight_scale`), the block-wise files of DeepSeek and Qwen (`weight_scale_inv`, in DeepSeek's own code `scale`), and musubi-tuner (`scale_weight`).
import type { StoredTensor } from "./checkpoint.js";

/** Names of a scale beside `weight`, below the module's path. */
export const SCALE_NAMES = [
  "scale_weight",
  "weight_scale",
  "weight_scale_inv",
  "weight_scales",
  "scale",
  "scale_inv",
  "scales",
  "weight.scale",
  "weight.scale_inv",
  "weight.weight_scale",
  "weight.scale_weight",
] as const;

/** Tensors beside a weight that qedit does not read, and why it need not. */
export const IDLE_BESIDE_WEIGHTS: readonly { readonly names: readonly string[]; readonly reason: string }[] = [
  {
    names: ["scale_input", "input_scale", "input_scale_inv", "activation_scale", "activation_scale_inv", "act_scale"],
    reason: "of the layer's input, for products in 8 bits: qedit multiplies without rounding the input",
  },
  {
    names: ["k_scale", "v_scale", "q_scale", "prob_scale", "k_proj.output_scale", "v_proj.output_scale"],
    reason: "of a cache of keys and values in 8 bits, which an encoder does not have",
  },
  { names: ["comfy_quant"], reason: "the format in words: read when the file is opened (see packed-formats.ts)" },
];

/** What each number of a scale is for: the whole weight, a row of it, or a block of `rows` times `columns`, smaller at the edges. */
export type ScaleGrid =
  | { readonly per: "tensor" }
  | { readonly per: "row" }
  | { readonly per: "block"; readonly rows: number; readonly columns: number };

/** Sides of blocks that quantisers use, the usual one first: 128 of DeepSeek and Qwen, 64 of musubi-tuner. */
const BLOCK_SIDES = [128, 64, 32, 256, 16, 512];

/** Which part of a weight each number of its scale is for, by their shapes; undefined when they do not fit. A kernel counts as a matrix of rows of all its other axes. */
export function scaleGrid(
  scale: Pick<StoredTensor, "shape">,
  weight: Pick<StoredTensor, "shape">,
): ScaleGrid | undefined {
  const count = scale.shape.reduce((product, dim) => product * dim, 1);
  if (count === 1) return { per: "tensor" };
  const [rows = 1, ...others] = weight.shape;
  const columns = others.reduce((product, dim) => product * dim, 1);
  const [down = 1, across = 1, ...rest] = scale.shape;
  if (down === rows && count === rows) return { per: "row" };
  if (rest.some((dim) => dim !== 1)) return undefined;
  const covers = (length: number, side: number, blocks: number) => Math.ceil(length / side) === blocks;
  const square = BLOCK_SIDES.find((side) => covers(rows, side, down) && covers(columns, side, across));
  if (square !== undefined) return { per: "block", rows: square, columns: square };
  const wide = BLOCK_SIDES.find((side) => covers(columns, side, across));
  if (down === rows && wide !== undefined) return { per: "block", rows: 1, columns: wide };
  const isEven = down > 0 && across > 0 && rows % down === 0 && columns % across === 0;
  return isEven ? { per: "block", rows: rows / down, columns: columns / across } : undefined;
}

/** The name of the scale of a weight `<module>.weight`, if there is one among the tensors. */
export function scaleNameOf(tensors: ReadonlyMap<string, unknown>, weight: string): string | undefined {
  if (!weight.endsWith(".weight")) return undefined;
  const module = weight.slice(0, -"weight".length);
  return SCALE_NAMES.map((name) => module + name).find((name) => tensors.has(name));
}

/** A weight in 8 bits or less, of which each number says little without a scale. */
export function isNarrow({ dtype, shape }: StoredTensor): boolean {
  return shape.length >= 2 && /^(F8_|F6_|F4|I8$|U8$)/.test(dtype);
}
