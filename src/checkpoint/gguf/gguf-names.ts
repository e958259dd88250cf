// llama.cpp's names of Qwen2.5-VL and Qwen3-VL (architectures `qwen2vl`, `qwen3vl` and `clip`, convert_hf_to_gguf.py and
// gguf-py/gguf/tensor_mapping.py) as the published keys, and the numbers of their headers as the configuration that transformers writes.
import { QeditError } from "../../std/errors.js";
import type { StoredTensor } from "../checkpoint.js";
import type { GgufHeader, GgufValue } from "./gguf-header.js";

/** What `general.architecture` says of language models under llama.cpp's names. Transformers have their own names under any word. */
const LANGUAGES: readonly (GgufValue | undefined)[] = ["qwen2vl", "qwen3vl"];
const VISION_TOWER = "clip";
/** What the projector of Qwen3-VL's tower is called (`clip.projector_type`). */
const QWEN3_PROJECTOR = /^qwen3vl/;

/** The part of a model that a file holds under llama.cpp's names; undefined when it is under its own. */
export function partOfGguf({ values }: GgufHeader): "language" | "vision" | undefined {
  const architecture = values.get("general.architecture");
  if (architecture === VISION_TOWER) return "vision";
  return LANGUAGES.includes(architecture) ? "language" : undefined;
}

function isQwen3Tower({ values, tensors }: GgufHeader): boolean {
  const projector = values.get("clip.vision.projector_type") ?? values.get("clip.projector_type");
  return typeof projector === "string" ? QWEN3_PROJECTOR.test(projector) : tensors.has("v.position_embd.weight");
}

type Rename = readonly [from: RegExp, to: string];

const LANGUAGE: readonly Rename[] = [
  [/^token_embd\./, "model.embed_tokens."],
  [/^output_norm\./, "model.norm."],
  [/^blk\.(\d+)\.attn_norm\./, "model.layers.$1.input_layernorm."],
  [/^blk\.(\d+)\.ffn_norm\./, "model.layers.$1.post_attention_layernorm."],
  [/^blk\.(\d+)\.attn_([qkv])\./, "model.layers.$1.self_attn.$2_proj."],
  [/^blk\.(\d+)\.attn_([qk])_norm\./, "model.layers.$1.self_attn.$2_norm."],
  [/^blk\.(\d+)\.attn_output\./, "model.layers.$1.self_attn.o_proj."],
  [/^blk\.(\d+)\.ffn_(gate|up|down)\./, "model.layers.$1.mlp.$2_proj."],
];

const VISION: readonly Rename[] = [
  [/^v\.blk\.(\d+)\.ln([12])\./, "visual.blocks.$1.norm$2."],
  [/^v\.blk\.(\d+)\.attn_out\./, "visual.blocks.$1.attn.proj."],
  [/^v\.blk\.(\d+)\.attn_qkv\./, "visual.blocks.$1.attn.qkv."],
  [/^v\.blk\.(\d+)\.ffn_(gate|up|down)\./, "visual.blocks.$1.mlp.$2_proj."],
  [/^v\.post_ln\./, "visual.merger.ln_q."],
  [/^mm\.([02])\./, "visual.merger.mlp.$1."],
];

const QWEN3_VISION: readonly Rename[] = [
  ...VISION.filter(([, to]) => to.startsWith("visual.blocks.") && !to.includes(".mlp.")),
  [/^v\.blk\.(\d+)\.ffn_up\./, "visual.blocks.$1.mlp.linear_fc1."],
  [/^v\.blk\.(\d+)\.ffn_down\./, "visual.blocks.$1.mlp.linear_fc2."],
  [/^v\.patch_embd\.bias$/, "visual.patch_embed.proj.bias"],
  [/^v\.position_embd\./, "visual.pos_embed."],
  [/^v\.post_ln\./, "visual.merger.norm."],
  [/^mm\.0\./, "visual.merger.linear_fc1."],
  [/^mm\.2\./, "visual.merger.linear_fc2."],
];

/** The merger of features behind a block, which llama.cpp names by the block. */
const FEATURES = /^v\.deepstack\.(\d+)\.(norm|fc1|fc2)\./;

const QUERIES = /^v\.blk\.(\d+)\.attn_q\.(weight|bias)$/;
const KEYS_AND_VALUES = /^v\.blk\.\d+\.attn_[kv]\.(weight|bias)$/;
const FRAME = "v.patch_embd.weight";
const SECOND_FRAME = "v.patch_embd.weight.1";

/** The word head: an encoder does without, and half a billion weights need not be repacked. */
const HEAD = /^output\./;

/** The tensors of a language model under the published keys, without its head. */
export function languageTensors({ tensors }: GgufHeader): Map<string, StoredTensor> {
  const own = [...tensors].filter(([name]) => !HEAD.test(name));
  return new Map(own.map(([name, stored]) => [renamed(name, LANGUAGE), stored]));
}

/** The tensors of a vision tower under the published keys, with what llama.cpp splits put together. Throws QEDIT_E_CHECKPOINT when a part is missing. */
export function visionTensors(header: GgufHeader, file: string): Map<string, StoredTensor> {
  const { tensors } = header;
  const found = new Map<string, StoredTensor>();
  const renames = isQwen3Tower(header) ? [...featureRenames(header), ...QWEN3_VISION] : VISION;
  const needed = (name: string) => {
    const stored = tensors.get(name);
    if (stored !== undefined) return stored;
    throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${file} as a vision tower: it has no "${name}"`, {
      hint: "Take the mmproj file that belongs to the language model",
    });
  };
  for (const [name, stored] of tensors) {
    const query = QUERIES.exec(name);
    if (query !== null) {
      const parts = ["q", "k", "v"].map((each) => needed(name.replace(".attn_q.", `.attn_${each}.`)));
      found.set(`visual.blocks.${query[1]}.attn.qkv.${query[2]}`, joined(name, parts, { axis: 0, file }));
    } else if (name === FRAME) {
      found.set("visual.patch_embed.proj.weight", joined(name, [stored, needed(SECOND_FRAME)], { axis: 2, file }));
    } else if (name !== SECOND_FRAME && !KEYS_AND_VALUES.test(name)) {
      found.set(renamed(name, renames), stored);
    }
  }
  return found;
}

// Mergers are numbered in the order of their blocks.
function featureRenames(header: GgufHeader): Rename[] {
  return featureBlocks(header).flatMap((block, index): Rename[] => [
    [new RegExp(`^v\\.deepstack\\.${block}\\.norm\\.`), `visual.deepstack_merger_list.${index}.norm.`],
    [new RegExp(`^v\\.deepstack\\.${block}\\.fc([12])\\.`), `visual.deepstack_merger_list.${index}.linear_fc$1.`],
  ]);
}

function featureBlocks({ tensors }: GgufHeader): readonly number[] {
  const blocks = [...tensors.keys()].flatMap((name) => FEATURES.exec(name)?.[1] ?? []);
  return [...new Set(blocks.map(Number))].sort((a, b) => a - b);
}

// Rows one behind the other (axis 0), or the frames of a patch as an axis of their own (axis 2).
function joined(
  name: string,
  parts: readonly StoredTensor[],
  { axis, file }: { axis: 0 | 2; file: string },
): StoredTensor {
  const [first] = parts as readonly [StoredTensor];
  const inner = (shape: readonly number[]) => shape.slice(axis === 0 ? 1 : 0).join();
  if (parts.some(({ dtype, shape }) => dtype !== first.dtype || inner(shape) !== inner(first.shape)))
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${file}: "${name}" and what belongs to it differ in type or shape`,
      {
        hint: "Take the file in one type, such as F16 or Q8_0",
      },
    );
  const rows = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  const shape =
    axis === 0
      ? [rows, ...first.shape.slice(1)]
      : [...first.shape.slice(0, axis), parts.length, ...first.shape.slice(axis)];
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return { ...first, shape, length, joinedFrom: { axis, parts } };
}

function renamed(name: string, renames: readonly Rename[]): string {
  const found = renames.find(([from]) => from.test(name));
  return found === undefined ? name : name.replace(...found);
}

/** The configuration of a language model, as transformers' config.json has it. */
export function languageConfigOf({ values }: GgufHeader): Readonly<Record<string, unknown>> {
  const of = (key: string) => values.get(`${String(values.get("general.architecture"))}.${key}`);
  const sections = numbers(of("rope.dimension_sections"))?.slice(0, 3);
  return {
    text_config: defined({
      num_hidden_layers: of("block_count"),
      num_attention_heads: of("attention.head_count"),
      num_key_value_heads: of("attention.head_count_kv"),
      rms_norm_eps: of("attention.layer_norm_rms_epsilon"),
      rope_theta: of("rope.freq_base"),
      ...(sections !== undefined && { rope_scaling: { mrope_section: sections } }),
    }),
  };
}

/** The configuration of a vision tower, as transformers' config.json has it. */
export function visionConfigOf(header: GgufHeader): Readonly<Record<string, unknown>> {
  const of = (key: string) => header.values.get(`${VISION_TOWER}.vision.${key}`);
  const blocks = of("block_count");
  const sizes = { depth: blocks, num_heads: of("attention.head_count") };
  if (isQwen3Tower(header))
    return { vision_config: defined({ ...sizes, deepstack_visual_indexes: featureBlocks(header) }) };
  const every = of("n_wa_pattern");
  // Every so many blocks one attends over the whole picture.
  const whole =
    typeof every === "number" && typeof blocks === "number" && every > 0 && blocks <= MOST_BLOCKS
      ? Array.from({ length: Math.floor(blocks / every) }, (_, index) => (index + 1) * every - 1)
      : undefined;
  return {
    vision_config: defined({
      ...sizes,
      window_size: of("window_size"),
      fullatt_block_indexes: whole,
    }),
  };
}

const MOST_BLOCKS = 1000;

function numbers(value: GgufValue | undefined): readonly number[] | undefined {
  return Array.isArray(value) && value.every((each) => typeof each === "number") ? value : undefined;
}

function defined(values: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
