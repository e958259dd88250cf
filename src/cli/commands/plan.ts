// qedit plan: what an edit would do and take, before anything is computed.
import { bytes } from "../../stages/option.js";
import { defineCommand } from "../command.js";
import { resolveSettings } from "../edit-settings.js";
import { checkInputs } from "../input.js";
import { showPlan } from "../plan-output.js";
import { picturePath } from "../picture-output.js";
import { seedsOf } from "../seeds.js";
import { makingOptions, refuseContradictions } from "./run.js";

const vram = bytes({ flags: "--vram <size>", summary: "memory of the GPU to plan for, such as 24G", group: "Device", isPerCall: true }, undefined);

const options = { ...makingOptions, vram };

/** `qedit plan photo.jpg -p "…"`. */
export const plan = defineCommand({
  summary: "Tell what an edit would take: sizes, work, memory, time",
  examples: [
    'qedit plan photo.jpg -p "make it winter"',
    'qedit plan person.jpg hat.png -p "put the hat on the person" --fast 4 --vram 24G',
    'qedit plan photo.jpg -p "make it winter" --json',
  ],
  positionals: [["<image...>", "pictures, in the order the prompt counts them; - is stdin"]],
  options,
  async perform(call, terminal) {
    const { args, settings: unresolved, given } = call;
    refuseContradictions(call);
    checkInputs([...args, unresolved.prompt]);
    picturePath(unresolved, args[0]!, "-edit");
    const settings = await resolveSettings({ table: options, settings: unresolved, given, emit: terminal.emit });
    return showPlan({ args, settings, results: seedsOf(unresolved).length, vram: unresolved.vram, isDryRun: false }, terminal);
  },
});
