// qedit each: makes the same edit of every picture, and loads each network once.

import { defaulted, optional, type SettingsOf } from "../../edit/parameters/parameter.js";
import { text, texts, toggle } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { sheet } from "../files/sheet-option.js";
import { runOptions } from "../jobs/run-options.js";
import { remoteOptions } from "../settings/remote-options.js";
import { manyOptions, maxFailures, serverOptions } from "../settings/shared-options.js";

const options = {
  ...runOptions,
  output: optional(text, {
    summary: "folder of the results; beside the pictures without it",
    group: "Output",
    scope: "call",
    short: "o",
    placeholder: "<folder>",
  }),
  with: defaulted(texts, [], {
    summary: "picture 2 of every edit, then 3 and so on; repeatable",
    group: "Prompt",
    scope: "call",
    placeholder: "<file>",
  }),
  resume: defaulted(toggle, false, {
    summary: "leave out pictures whose result is there",
    group: "Output",
    scope: "call",
  }),
  maxFailures,
  sheet,
  ...manyOptions,
  ...serverOptions,
  ...remoteOptions,
};

/** The settings of a call. */
export type EachSettings = SettingsOf<typeof options>;

/** `qedit each '*.jpg' -p "…"`. */
export const each = defineCommand({
  examples: [
    `qedit each '*.jpg' -p "make it winter"`,
    `qedit each 'photos/**/*.png' -p "make it winter" -o winter/ --format jpg`,
    `qedit each portraits/ -p "put the hat of picture 2 on the person" --with hat.png`,
    `qedit each '*.jpg' -p "make it winter" --resume`,
  ],
  positionals: [["<picture...>", "files, patterns, or folders, which stand for the pictures in them"]],
  options,
  async perform(call, terminal) {
    const { editEach } = await import("../actions/edit-each.js");
    await editEach(call, terminal);
  },
});
