// Qwen2.5's tokenizer: NFC, Qwen2's word pattern, byte-level BPE, added tokens recognised in the text. No tokens are put at the ends.
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { tokenizerJson, type VocabularyName } from "./vocabulary.js";

const MERGES = new URL("./data/qwen2.5-merges.txt.gz", import.meta.url);

/** Turns text into Qwen2.5's token ids and back. */
export interface PromptTokenizer {
  /** Ids of text, in 0..151668. Spellings of added tokens, such as <|im_start|>, become those tokens. */
  encode(text: string): number[];
  /** The text of ids, added tokens included. */
  decode(ids: readonly number[]): string;
}

/** Loads a vocabulary that ships with qedit, about half a second: keep what it gives. Qwen2.5's unless named. */
export async function loadTokenizer(name?: VocabularyName): Promise<PromptTokenizer> {
  const [{ Tokenizer }, vocabulary] = await Promise.all([import("@huggingface/tokenizers"), readTokenizerJson(name)]);
  const tokenizer = new Tokenizer(vocabulary, { clean_up_tokenization_spaces: false });
  return {
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => (ids.length === 0 ? "" : tokenizer.decode([...ids])),
  };
}

/** A vocabulary that ships with qedit, in the form of a Hugging Face tokenizer.json. */
export async function readTokenizerJson(name?: VocabularyName): Promise<object> {
  return tokenizerJson(
    gunzipSync(await readFile(MERGES))
      .toString("utf8")
      .split("\n"),
    name,
  );
}
