// The option --preview, apart from what writes previews: help needs only this.
import { optional } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";

/** A file for previews. */
export const preview = optional(text, {
  summary: "show there what is being made, a small picture after every step",
  group: "Output",
  scope: "call",
  placeholder: "<file>",
});
