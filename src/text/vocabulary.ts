// Qwen2.5's vocabulary, rebuilt from its merges, in the form of a Hugging Face tokenizer.json.
// https://huggingface.co/Qwen/Qwen2.5-7B/blob/main/tokenizer.json; what is shipped and under which licence: data/README.md

/** Ids of the added tokens that the edit prompt is built with. */
export const TOKEN = {
  endOfText: 151643,
  messageStart: 151644,
  messageEnd: 151645,
  visionStart: 151652,
  visionEnd: 151653,
  imagePad: 151655,
  videoPad: 151656,
} as const;

const FIRST_ADDED_ID = TOKEN.endOfText;

/** The spelling of TOKEN.endOfText. */
export const END_OF_TEXT = "<|endoftext|>";

/** Tokens of ComfyUI's tokenizer for Qwen-Image that Qwen's own lacks (comfy/text_encoders/qwen25_tokenizer/tokenizer_config.json). */
const COMFYUI_TOKENS = ["<|img|>", "<|endofimg|>", "<|meta|>", "<|endofmeta|>"] as const;

/** Tokens that Qwen3 has in their places (Qwen/Qwen3-VL-8B-Instruct, tokenizer_config.json). */
const QWEN3_TOKENS = ["<tool_response>", "</tool_response>", "<think>", "</think>"] as const;

/** The last added tokens of each vocabulary, which differ in nothing else. */
export const VOCABULARIES = { "qwen2.5": COMFYUI_TOKENS, qwen3: QWEN3_TOKENS } as const;

/** Name of a vocabulary. */
export type VocabularyName = keyof typeof VOCABULARIES;

// In the order of their ids, which are consecutive.
const ADDED_TOKENS = [
  END_OF_TEXT,
  "<|im_start|>",
  "<|im_end|>",
  "<|object_ref_start|>",
  "<|object_ref_end|>",
  "<|box_start|>",
  "<|box_end|>",
  "<|quad_start|>",
  "<|quad_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|vision_pad|>",
  "<|image_pad|>",
  "<|video_pad|>",
  "<tool_call>",
  "</tool_call>",
  "<|fim_prefix|>",
  "<|fim_middle|>",
  "<|fim_suffix|>",
  "<|fim_pad|>",
  "<|repo_name|>",
  "<|file_sep|>",
];

const PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The tokenizer.json of merges, which are lines "left right" in order. Throws when the ids do not come out as Qwen's. */
export function tokenizerJson(merges: readonly string[], name: VocabularyName = "qwen2.5"): object {
  const vocab: Record<string, number> = {};
  let id = 0;
  for (const symbol of byteSymbols()) vocab[symbol] = id++;
  for (const merge of merges) vocab[merge.replace(" ", "")] = id++;
  if (id !== FIRST_ADDED_ID) throw new Error(`internal: the merges give ${id} tokens, wanted ${FIRST_ADDED_ID}`);
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    added_tokens: [...ADDED_TOKENS, ...VOCABULARIES[name]].map((content, index) => ({
      id: FIRST_ADDED_ID + index,
      content,
      ...flags,
    })),
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "Split", pattern: { Regex: PATTERN }, behavior: "Isolated", invert: false }, byteLevel],
    },
    post_processor: byteLevel,
    decoder: byteLevel,
    model: { type: "BPE", unk_token: null, continuing_subword_prefix: "", end_of_word_suffix: "", vocab, merges },
  };
}

/** GPT-2's symbols of the 256 bytes in the order of Qwen's ids: printable bytes as themselves, then U+0100 and on for the others. */
function byteSymbols(): string[] {
  const codes = [...range(33, 127), ...range(161, 173), ...range(174, 256)];
  const others = range(256, 512 - codes.length);
  return [...codes, ...others].map((code) => String.fromCharCode(code));
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}
