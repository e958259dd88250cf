// --sheet: the file of the contact sheet.

import { optional } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";

/** The option that names the sheet's file. */
export const sheet = optional(text, {
  summary: "all pictures on one labelled contact sheet, the original first",
  group: "Output",
  scope: "call",
  placeholder: "<file>",
});
