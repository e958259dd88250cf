// How long the sequences are: of a prompt in its template, by the real tokenizer, and of the transformer.
import { dropIndex, editPrompt, expandImages } from "../../text/prompt.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";

/** Tokens of one prompt. */
export interface PromptTokens {
  /** The template with an empty prompt: instructions, and the labels of pictures. */
  readonly template: number;
  /** What the vision tower puts in the place of pictures. */
  readonly vision: number;
  /** The user's own words. */
  readonly prompt: number;
  /** All that the language model reads. */
  readonly total: number;
  /** What of it the transformer sees: all but the instructions in front. */
  readonly seen: number;
}

/** Counts the tokens of a prompt with pictures of so many vision tokens. */
export function promptTokens(
  tokenizer: PromptTokenizer,
  prompt: string,
  { vision, unescapeParentheses }: { vision: readonly number[]; unescapeParentheses: boolean },
): PromptTokens {
  const options = { slots: vision.map((_, index) => index + 1), unescapeParentheses };
  const count = (text: string): { ids: readonly number[]; total: number } => {
    const ids = tokenizer.encode(editPrompt(text, options));
    return { ids, total: expandImages(ids, vision).ids.length };
  };
  const { ids, total } = count(prompt);
  const seenPictures = vision.reduce((sum, tokens) => sum + tokens, 0);
  const template = count("").total - seenPictures;
  return {
    template,
    vision: seenPictures,
    prompt: total - template - seenPictures,
    total,
    seen: total - dropIndex(ids),
  };
}
