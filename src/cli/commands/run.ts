// qedit run: a whole edit, or the same edit with several seeds.

import { defaulted, type SettingsOf } from "../../edit/parameters/parameter.js";
import { toggle } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { preview, previewTerminal } from "../files/preview-option.js";
import { sheet } from "../files/sheet-option.js";
import { runOptions } from "../jobs/run-options.js";
import { remoteOptions } from "../settings/remote-options.js";
import { seedOptions } from "../settings/seeds.js";
import { manyOptions, serverOptions } from "../settings/shared-options.js";

/** Options that `run` and `plan` share. */
export const makingOptions = { ...runOptions, ...seedOptions, sheet, ...manyOptions };

/** Their values. */
export type MakingSettings = SettingsOf<typeof makingOptions>;

const dryRun = defaulted(toggle, false, {
  summary: "print the plan instead, as `qedit plan`; exit 3 if a model file is missing",
  group: "Output",
  scope: "call",
  short: "n",
});

/** `qedit run photo.jpg -p "…"`. */
export const run = defineCommand({
  examples: [
    'qedit run photo.jpg -p "make it black and white"',
    'qedit run person.jpg hat.png -p "put the hat of picture 2 on the person" -o out.png',
    'qedit run photo.jpg -p "make it winter" --seeds 1,5,9..12 --sheet sheet.png',
    'qedit run -p "a red bicycle in the snow" --model qwen-image-2.1 --size 1024x1024',
    'cat photo.jpg | qedit run - -p "make it winter" -o - > out.png',
  ],
  positionals: [["[image...]", "pictures, in the order the prompt counts them; - is stdin"]],
  options: { ...makingOptions, dryRun, preview, previewTerminal, ...serverOptions, ...remoteOptions },
  async perform(call, terminal) {
    const { makePictures } = await import("../actions/make-pictures.js");
    return makePictures(call, terminal);
  },
});
