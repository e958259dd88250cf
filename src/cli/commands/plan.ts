// qedit plan: shows what an edit would need, or what machines a rate of edits would, without computing anything.
import { defineCommand } from "../command.js";
import { capacityOptions } from "../settings/capacity-options.js";
import { remoteOptions } from "../settings/remote-options.js";
import { makingOptions } from "./run.js";

/** `qedit plan photo.jpg -p "…"`. */
export const plan = defineCommand({
  examples: [
    'qedit plan photo.jpg -p "make it winter"',
    'qedit plan person.jpg hat.png -p "put the hat on the person" --fast 4 --vram 24G',
    'qedit plan photo.jpg -p "make it winter" --json',
    "qedit plan --replicas --rate 120/min --seconds 12",
  ],
  positionals: [["[image...]", "pictures, in the order the prompt counts them; - is stdin"]],
  options: {
    ...makingOptions,
    // Machines are planned without one.
    prompt: { ...makingOptions.prompt, isRequired: false },
    ...remoteOptions,
    ...capacityOptions,
  },
  async perform(call, terminal) {
    const { planPictures } = await import("../actions/show-plan.js");
    return planPictures(call, terminal);
  },
});
