// The prompt of Qwen-Image-Edit-2509: template, pictures by slot, and where the vision tower's tokens go.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy_extras/nodes_qwen.py, comfy/text_encoders/qwen_image.py
import { END_OF_TEXT, TOKEN } from "./vocabulary.js";

const SYSTEM =
  "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain how the user's text " +
  "instruction should alter or modify the image. Generate a new image that meets the user's requirements while maintaining consistency " +
  "with the original input where appropriate.";

/** The template by name, for records: raised when its words change. */
export const TEMPLATE_NAME = "qwen-image-edit-plus 1";

/** Tokens of "user" and a line break, which end the part that the transformer does not see. */
export const USER_LINE = [872, 198];

/** How a prompt is put into the template. */
export interface PromptOptions {
  /** Slot numbers of the pictures, in order, 1 the first: a lone picture in the second slot is "Picture 2". */
  readonly slots: readonly number[];
  /** Drops the backslash of \( and \), as ComfyUI's weight parser does although weights are off for this model. */
  readonly unescapeParentheses?: boolean;
}

/** The text to tokenize: the user's prompt, which may be empty, behind its pictures and inside the 2509 template. */
export function editPrompt(prompt: string, { slots, unescapeParentheses = false }: PromptOptions): string {
  const pictures = slots.map((slot) => `Picture ${slot}: <|vision_start|><|image_pad|><|vision_end|>`).join("");
  const text = unescapeParentheses ? prompt.replace(/\\([()])/g, "$1") : prompt;
  return `<|im_start|>system\n${SYSTEM}<|im_end|>\n<|im_start|>user\n${pictures}${text}<|im_end|>\n<|im_start|>assistant\n`;
}

/** Whether a prompt says nothing: no text up to its <|endoftext|>, or only white space and invisible characters. */
export function isEmptyPrompt(prompt: string): boolean {
  return /^[\s\p{Cc}\p{Cf}]*$/u.test(prompt.split(END_OF_TEXT)[0]!);
}

/**
 * The tokens that are seen: all before a typed <|endoftext|>, which ComfyUI masks with all that follows, the end of the template included. A mask
 * over the last tokens equals their absence: nothing attends to them, and the positions of the others do not change.
 */
export function seenTokens(ids: readonly number[]): readonly number[] {
  const end = ids.indexOf(TOKEN.endOfText);
  return end < 0 ? ids : ids.slice(0, end);
}

/**
 * How many leading tokens the transformer does not see: all before the second <|im_start|>, and with it "user" and the line break; 64 for
 * the 2509 template. ids are not yet expanded. Throws when there is no second <|im_start|>.
 */
export function dropIndex(ids: readonly number[]): number {
  const first = ids.indexOf(TOKEN.messageStart);
  const second = ids.indexOf(TOKEN.messageStart, first + 1);
  if (first < 0 || second < 0) throw new Error("internal: the prompt is not in the edit template");
  const endsWithUser = ids.length > second + 3 && USER_LINE.every((id, i) => ids[second + 1 + i] === id);
  return endsWithUser ? second + 3 : second;
}

/** A run of image tokens in the expanded sequence. */
export interface ImageSpan {
  readonly start: number;
  readonly count: number;
}

/** Token ids with every picture's placeholder repeated once for each of its vision tokens, and where those lie. */
export interface ExpandedPrompt {
  readonly ids: readonly number[];
  readonly images: readonly ImageSpan[];
}

/**
 * Expands the first placeholders, one for each of tokenCounts, left to right. Further <|image_pad|>, typed by the user, stay ordinary
 * tokens. Throws when there are fewer placeholders than pictures.
 */
export function expandImages(ids: readonly number[], tokenCounts: readonly number[]): ExpandedPrompt {
  const expanded: number[] = [];
  const images: ImageSpan[] = [];
  for (const id of ids) {
    const count = id === TOKEN.imagePad ? tokenCounts[images.length] : undefined;
    if (count === undefined) expanded.push(id);
    else {
      images.push({ start: expanded.length, count });
      for (let i = 0; i < count; i++) expanded.push(id);
    }
  }
  if (images.length < tokenCounts.length)
    throw new Error(`internal: ${tokenCounts.length} pictures for ${images.length} placeholders`);
  return { ids: expanded, images };
}

/**
 * The inverse of expandImages: one placeholder where each picture's tokens stand side by side. undefined where a picture lacks some of them; further
 * <|image_pad|> stay as they are.
 */
export function contractImages(ids: readonly number[], tokenCounts: readonly number[]): readonly number[] | undefined {
  const contracted: number[] = [];
  let images = 0;
  for (let at = 0; at < ids.length; at++) {
    contracted.push(ids[at]!);
    const count = ids[at] === TOKEN.imagePad ? tokenCounts[images] : undefined;
    if (count === undefined) continue;
    const own = ids.slice(at, at + count);
    if (own.length < count || own.some((id) => id !== TOKEN.imagePad)) return undefined;
    images += 1;
    at += count - 1;
  }
  return images === tokenCounts.length ? contracted : undefined;
}
