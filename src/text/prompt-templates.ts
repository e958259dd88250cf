// The templates that prompts stand in, by the models that were trained with them.
import { dropIndex, editPrompt, type PromptOptions, TEMPLATE_NAME } from "./prompt.js";
import { TOKEN } from "./vocabulary.js";

/** A template. */
export interface PromptTemplate {
  /** For records: raised when its words change. */
  readonly name: string;
  /** The text to tokenize: the user's prompt, which may be empty, behind its pictures and inside the template. */
  readonly write: (prompt: string, options: PromptOptions) => string;
  /** How many leading tokens, not yet expanded, the transformer does not see. Throws when they are in no such template. */
  readonly dropIndex: (ids: readonly number[]) => number;
  /** Whether the line "user" behind the system turn is among these tokens. */
  readonly dropsUserLine: boolean;
}

/** That of Qwen-Image-2.1, with and without pictures: diffusers' QwenImage21Pipeline (0.42.1), and ComfyUI's comfy/text_encoders/qwen_image21.py. */
const QWEN_IMAGE_21: PromptTemplate = {
  name: "qwen-image-2.1 1",
  write(prompt, { slots, unescapeParentheses = false }) {
    const pictures = slots.map((slot) => `<image${slot}><|vision_start|><|image_pad|><|vision_end|>`).join(" ");
    const text = unescapeParentheses ? prompt.replace(/\\([()])/g, "$1") : prompt;
    // Without a token there would be nothing to read.
    const seen = text === "" ? " " : text;
    return `<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n<|im_start|>user\n${pictures}${seen}<|im_end|>\n<|im_start|>assistant\n`;
  },
  // The system turn: all before the second <|im_start|>.
  dropIndex(ids) {
    const second = ids.indexOf(TOKEN.messageStart, ids.indexOf(TOKEN.messageStart) + 1);
    if (second <= 0) throw new Error("internal: the prompt is not in the template of Qwen-Image-2.1");
    return second;
  },
  dropsUserLine: false,
};

/** The templates by name. */
export const PROMPT_TEMPLATES = {
  "qwen-image-edit-plus": { name: TEMPLATE_NAME, write: editPrompt, dropIndex, dropsUserLine: true },
  "qwen-image-2.1": QWEN_IMAGE_21,
} as const satisfies Readonly<Record<string, PromptTemplate>>;
