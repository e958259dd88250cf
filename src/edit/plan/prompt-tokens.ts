// Counts the tokens of a prompt in its template with the real tokenizer.
import type { TextEncoderName } from "../../models/text-encoder-family.js";
import { textEncoderNamed } from "../../models/text-encoders.js";
import { templateOf } from "../../stages/networks/embed-prompt.js";
import { expandImages, seenTokens } from "../../text/prompt.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";

/** Tokens of one prompt. */
export interface PromptTokens {
  /** The template with an empty prompt: instructions and labels of pictures. */
  readonly template: number;
  /** Tokens from the vision tower. */
  readonly vision: number;
  /** The user's text. */
  readonly prompt: number;
  /** The language model's sequence. */
  readonly total: number;
  /** The part that the transformer sees: without the instructions at the start, and without pictures where their latents take their places. */
  readonly seen: number;
}

/** Counts the tokens of a prompt; `vision`: vision tokens of each picture. */
export function promptTokens(
  tokenizer: PromptTokenizer,
  prompt: string,
  {
    vision,
    unescapeParentheses,
    family,
  }: {
    readonly vision: readonly number[];
    readonly unescapeParentheses: boolean;
    readonly family: TextEncoderName;
  },
): PromptTokens {
  const template = templateOf(family);
  const options = { slots: vision.map((_, index) => index + 1), unescapeParentheses };
  const count = (text: string): { ids: readonly number[]; total: number } => {
    const ids = tokenizer.encode(template.write(text, options));
    return { ids, total: expandImages(seenTokens(ids), vision).ids.length };
  };
  const { ids, total } = count(prompt);
  const seenPictures = vision.reduce((sum, tokens) => sum + tokens, 0);
  // An empty prompt may be read as a space.
  const words = count("").total - seenPictures;
  const { keepsImageTokens } = textEncoderNamed(family).conventions;
  return {
    template: words,
    vision: seenPictures,
    // a typed <|endoftext|> takes the end of the template with it
    prompt: Math.max(total - words - seenPictures, 0),
    total,
    seen: total - template.dropIndex(ids) - (keepsImageTokens ? 0 : seenPictures),
  };
}
