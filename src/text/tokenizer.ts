// Qwen2.5's tokenizer: NFC, Qwen2's word pattern, byte-level BPE, added tokens recognised in the text. No tokens are put at the ends.

import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { packageFile } from "../std/package-files.js";
import { BytePairs, type Merges } from "./byte-pairs.js";
import { addedTokens, TOKEN, tokenizerJson, type VocabularyName, WORDS } from "./vocabulary.js";

const MERGES = packageFile("text/data/qwen2.5-merges.bin.gz");

/** Turns text into Qwen2.5's token ids and back. */
export interface PromptTokenizer {
  /** Ids of text, in 0..151668. Spellings of added tokens, such as <|im_start|>, become those tokens. */
  encode(text: string): number[];
  /** The text of ids, added tokens included. */
  decode(ids: readonly number[]): string;
}

/** Loads a vocabulary that ships with qedit. Qwen2.5's unless named. */
export async function loadTokenizer(name: VocabularyName = "qwen2.5"): Promise<PromptTokenizer> {
  const pairs = new BytePairs(await readMerges());
  const added = addedTokens(name);
  const spellings = new Map([...added].map(([token, id]) => [id, token]));
  // Longer ones first: none may hide another that begins with it.
  const longest = [...added.keys()].sort((a, b) => b.length - a.length);
  const splitting = new RegExp(`(${longest.map((token) => token.replace(/[|/]/g, "\\$&")).join("|")})`);
  const bytes = new TextEncoder();
  const encodePlain = (text: string) =>
    (text.normalize("NFC").match(WORDS) ?? []).flatMap((word) => pairs.encode(bytes.encode(word)));
  return {
    encode: (text) =>
      text.split(splitting).flatMap((part) => (added.has(part) ? [added.get(part)!] : encodePlain(part))),
    decode(ids) {
      const read: number[] = [];
      for (const id of ids) {
        const spelled = spellings.get(id);
        if (spelled === undefined) read.push(...pairs.bytesOf(id));
        else read.push(...bytes.encode(spelled));
      }
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(read));
    },
  };
}

/** What a loaded vocabulary is memoized by. */
export function tokenizerKey(name: VocabularyName): string {
  return name === "qwen2.5" ? "tokenizer" : `tokenizer ${name}`;
}

/** A vocabulary that ships with qedit, in the form of a Hugging Face tokenizer.json. */
export async function readTokenizerJson(name: VocabularyName = "qwen2.5"): Promise<object> {
  return tokenizerJson(await readMerges(), name);
}

// The file has the left parts of all merges, then the right ones: of each the lowest bytes of the ids, the middle and the highest.
async function readMerges(): Promise<Merges> {
  const packed = gunzipSync(await readFile(MERGES));
  const count = packed.length / 6;
  if (256 + count !== TOKEN.endOfText) throw new Error(`internal: there are ${count} merges`);
  const ids = (side: number) => {
    const [low, middle, high] = [0, 1, 2].map((plane) => packed.subarray((3 * side + plane) * count));
    return Int32Array.from(
      { length: count },
      (_, merge) => low![merge]! | (middle![merge]! << 8) | (high![merge]! << 16),
    );
  };
  return { left: ids(0), right: ids(1) };
}
