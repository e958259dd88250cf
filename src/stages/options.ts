// Options that more than one stage takes, spelled once.
import { choice, text } from "./option.js";

/** The VAE file, of encode-image and decode. */
export const vae = text({ flags: "--vae <file>", summary: "VAE, such as qwen_image_vae.safetensors", group: "Models" });

/** What the VAE computes in, of encode-image and decode. */
export const vaeDtype = choice({ flags: "--vae-dtype <type>", summary: "compute type of the VAE", group: "Device" }, ["auto", "float32", "float16"], "auto");

/** Whose rules for sizes and rounding: qedit's own, or a tool's to the bit. */
export const match = choice(
  { flags: "--match <tool>", summary: "make the sizes and rounding of another tool's nodes", group: "Sizes" },
  ["comfyui", "comfyui-kontext"],
  undefined,
);
