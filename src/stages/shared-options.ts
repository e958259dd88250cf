// Options that more than one stage takes, spelled once.
import { bytes, choice, number, text } from "./option.js";

/** The VAE file, of encode-image and decode. */
export const vae = text({ flags: "--vae <file>", summary: "VAE, such as qwen_image_vae.safetensors", group: "Models" });

/** What the VAE computes in, of encode-image and decode. */
export const vaeDtype = choice(
  { flags: "--vae-dtype <type>", summary: "compute type of the VAE", group: "Device" },
  ["auto", "float32", "float16"],
  "auto",
);

/** In what parts the VAE works, of encode-image and decode. */
export const tile = number(
  {
    flags: "--tile <pixels>",
    summary: "let the VAE work on squares of so many pixels, with the same result in less memory",
    group: "Device",
    initialText: "the whole picture where it fits",
  },
  { minimum: 64, maximum: 16384, whole: true, initial: undefined },
);

/** Whose rules for sizes and rounding: qedit's own, or a tool's to the bit. */
export const match = choice(
  { flags: "--match <tool>", summary: "make the sizes and rounding of another tool's nodes", group: "Sizes" },
  ["comfyui", "comfyui-kontext"],
  undefined,
);

const inBytes = bytes(
  {
    flags: "--vram <size>",
    summary:
      "memory of the device to plan for, such as 24G, 16G, 12G or 8G; what does not fit is read again at every step",
    group: "Device",
    initialText: "what the card has free",
  },
  undefined,
);

/** Bytes of the device that networks may take: a size, or a number of GiB. */
export const vram: typeof inBytes = {
  ...inBytes,
  parse: (value, before) => inBytes.parse!(/^\d+(?:\.\d+)?$/.test(value.trim()) ? `${value.trim()}G` : value, before),
};
