// Qwen2.5's vocabulary, rebuilt from its merges, in the form of a Hugging Face tokenizer.json.
// https://huggingface.co/Qwen/Qwen2.5-7B/blob/main/tokenizer.json; what is shipped and under which licence: data/README.md

import { isPrintable, type Merges } from "./byte-pairs.js";

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

/** The words of a text, as Qwen's tokenizer.json has them. */
const PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// Unicode's White_Space, which JavaScript's \s is not: it has U+FEFF, and lacks U+0085.
const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** PATTERN as JavaScript writes it. */
export const WORDS = new RegExp(
  [
    // Folded, the long s is an s.
    "'(?:[sS\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])",
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+",
    "\\p{N}",
    ` ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n]*`,
    `[${SPACE}]*[\\r\\n]+`,
    `[${SPACE}]+(?![^${SPACE}])`,
    `[${SPACE}]+`,
  ].join("|"),
  "gu",
);

/** The added tokens of a vocabulary with their ids. */
export function addedTokens(name: VocabularyName): ReadonlyMap<string, number> {
  return new Map([...ADDED_TOKENS, ...VOCABULARIES[name]].map((token, index) => [token, FIRST_ADDED_ID + index]));
}

/** The tokenizer.json of merges. */
export function tokenizerJson({ left, right }: Merges, name: VocabularyName): object {
  const tokens = byteSymbols();
  const merges: string[] = [];
  for (let merge = 0; merge < left.length; merge += 1) {
    const parts = [tokens[left[merge]!]!, tokens[right[merge]!]!];
    merges.push(parts.join(" "));
    tokens.push(parts.join(""));
  }
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    added_tokens: [...addedTokens(name)].map(([content, id]) => ({ id, content, ...flags })),
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
export function byteSymbols(): string[] {
  const printable = Array.from({ length: 256 }, (_, byte) => byte).filter(isPrintable);
  const others = Array.from({ length: 256 - printable.length }, (_, index) => 256 + index);
  return [...printable, ...others].map((code) => String.fromCharCode(code));
}
