// qedit run: a whole edit.
import { edit, editOptions } from "../../pipeline/edit.js";
import { encodeDecoded } from "../../stages/decode.js";
import { text } from "../../stages/option.js";
import { defineCommand } from "../command.js";
import { compute, withModelFiles } from "../compute.js";
import { presetOptions, resolveSettings } from "../edit-settings.js";
import { checkInputs, inputPictures, inputText } from "../input.js";
import { computeOptions, writeOptions } from "../options.js";
import { checkOutput, STREAM, writeOutput } from "../output.js";
import { format, pictureFormat, picturePath } from "../picture-output.js";

const keep = text({ flags: "--keep <folder>", summary: "keep the tensor files between the stages there", group: "Output", isPerCall: true });

const options = { ...editOptions, ...presetOptions, ...writeOptions, format, keep, ...computeOptions };

/** `qedit run photo.jpg -p "…"`. */
export const run = defineCommand({
  summary: "Edit pictures: all four stages in one go",
  examples: [
    'qedit run photo.jpg -p "make it black and white"',
    'qedit run person.jpg hat.png -p "put the hat of picture 2 on the person" -o out.png',
    'cat photo.jpg | qedit run - -p "make it winter" -o - > out.png',
  ],
  positionals: [["<image...>", "pictures, in the order the prompt counts them; - is stdin"]],
  options,
  async perform({ args, settings: unresolved, given }, terminal) {
    const settings = await resolveSettings({ table: options, settings: unresolved, given, emit: terminal.emit });
    checkInputs([...args, settings.prompt]);
    const path = picturePath(settings, args[0]!, "-edit");
    await checkOutput(path, settings, terminal);
    const found = await withModelFiles<typeof editOptions>(settings, ["vae", "textEncoder", "transformer"], terminal.emit);
    const complete = { ...found, prompt: await inputText(settings.prompt) };
    const { value, device, seconds } = await compute(settings, terminal, async (context) => {
      const pictures = await inputPictures(args);
      const picture = await edit({ pictures, settings: complete, keep: settings.keep }, context);
      await writeOutput(path, await encodeDecoded(picture, pictureFormat(path, settings.format)), { force: settings.force, terminal });
      return picture.info;
    });
    if (path !== STREAM) terminal.result({ output: path, kind: "picture", info: value, device, seconds }, [path]);
  },
});
