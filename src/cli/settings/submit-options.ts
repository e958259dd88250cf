// Options of `qedit submit`: the settings of an edit that a worker elsewhere takes, which are those that name no files of its machine.
import { defaulted, type ParameterTable, type SettingsOf } from "../../edit/parameters/parameter.js";
import { choicesOf, toggle } from "../../edit/parameters/parameter-kinds.js";
import {
  EDIT_PARAMETERS,
  MODEL_PARAMETERS,
  PICTURE_PARAMETERS,
  PRESET_PARAMETERS,
} from "../../edit/parameters/table.js";
import { WORK } from "../../server/kafka/kafka-topics.js";
import { kafkaOptions, schemaRegistry, store } from "./kafka-options.js";
import { jobsFileOptions, writeOptions } from "./shared-options.js";

const { vae: _vae, textEncoder: _text, transformer: _transformer, mask: _mask, ...settings } = EDIT_PARAMETERS;
const { model } = MODEL_PARAMETERS;

/** What goes into a request; `prompt` may also be in each job. */
export const requestOptions = {
  ...settings,
  ...PRESET_PARAMETERS,
  ...PICTURE_PARAMETERS,
  model,
  prompt: jobsFileOptions.prompt,
} satisfies ParameterTable;

/** All options. */
export const submitOptions = {
  ...requestOptions,
  ...kafkaOptions,
  store,
  schemaRegistry,
  workflow: defaulted(choicesOf(WORK), ["run"], {
    summary: "the way of each edit: run, one worker does it; or encode-image,encode-prompt,sample,decode",
    group: "Server",
    scope: "user",
    placeholder: "<stages>",
    initialText: "run",
  }),
  force: writeOptions.force,
  wait: defaulted(toggle, false, {
    summary: "wait for the answers, and write the pictures",
    group: "Output",
    scope: "call",
  }),
  resume: jobsFileOptions.resume,
};

/** Their values. */
export type SubmitSettings = SettingsOf<typeof submitOptions>;
