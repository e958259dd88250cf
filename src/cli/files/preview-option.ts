// The options --preview and --preview-terminal, apart from what shows previews: help needs only this.
import { defaulted, optional } from "../../edit/parameters/parameter.js";
import { choice, text } from "../../edit/parameters/parameter-kinds.js";

/** A file for previews. */
export const preview = optional(text, {
  summary: "show there what is being made, a small picture after every step",
  group: "Output",
  scope: "call",
  placeholder: "<file>",
});

/** Previews on the terminal. */
export const previewTerminal = defaulted(choice(["auto", "off", "kitty", "iterm2", "sixel"]), "auto", {
  summary: "show it on the terminal too: where it shows pictures, never, or by this protocol",
  group: "Terminal",
  scope: "user",
  placeholder: "<how>",
});
