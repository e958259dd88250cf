// The parameters of one edit, shared by run, each and batch.

import { optional, type SettingsOf } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";
import { EDIT_PARAMETERS, PICTURE_PARAMETERS, PRESET_PARAMETERS } from "../../edit/parameters/table.js";
import { cacheOptions, computeOptions, promptOptions, writeOptions } from "../settings/shared-options.js";

const keep = optional(text, {
  summary: "keep the tensor files between the stages there",
  group: "Output",
  scope: "call",
  placeholder: "<folder>",
});

/** The parameters. */
export const runOptions = {
  ...EDIT_PARAMETERS,
  ...promptOptions,
  ...PRESET_PARAMETERS,
  ...writeOptions,
  ...PICTURE_PARAMETERS,
  keep,
  ...cacheOptions,
  ...computeOptions,
};

/** Their values. */
export type RunSettings = SettingsOf<typeof runOptions>;
