// qedit plan: what an edit would do and take, before anything is computed.
import { defineCommand } from "../command.js";
import { checkInputs } from "../files/input.js";
import { picturePath } from "../files/picture-output.js";
import { showPlan } from "../plan-output.js";
import { resolveSettings } from "../settings/edit-settings.js";
import { seedsOf } from "../settings/seeds.js";
import { makingOptions, refuseContradictions } from "./run.js";

/** `qedit plan photo.jpg -p "…"`. */
export const plan = defineCommand({
  summary: "Tell what an edit would take: sizes, work, memory, time",
  examples: [
    'qedit plan photo.jpg -p "make it winter"',
    'qedit plan person.jpg hat.png -p "put the hat on the person" --fast 4 --vram 24G',
    'qedit plan photo.jpg -p "make it winter" --json',
  ],
  positionals: [["<image...>", "pictures, in the order the prompt counts them; - is stdin"]],
  options: makingOptions,
  async perform(call, terminal) {
    const { args, settings: unresolved, given } = call;
    refuseContradictions(call);
    checkInputs([...args, unresolved.prompt]);
    picturePath(unresolved, args[0]!, "-edit");
    const settings = await resolveSettings({ table: makingOptions, settings: unresolved, given, emit: terminal.emit });
    return showPlan(
      {
        args,
        settings,
        results: seedsOf(unresolved).length,
        isForCard: given.get("vram")?.layer === "flag",
        isDryRun: false,
      },
      terminal,
    );
  },
});
