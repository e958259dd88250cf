// qedit decode: samples to a picture.
import { timed } from "../../edit/run-stage.js";
import { decode, encodeDecoded } from "../../stages/decode.js";
import { defineCommand } from "../command.js";
import { compute, withModelFiles } from "../compute.js";
import { checkInputs, inputArtifact } from "../files/input.js";
import { checkOutput, STREAM, writeOutput } from "../files/output.js";
import { format, pictureFormat, picturePath } from "../files/picture-output.js";
import { computeOptions, writeOptions } from "../settings/options.js";

/** `qedit decode samples.safetensors -o out.png`. */
export const decodeCommand = defineCommand({
  summary: decode.summary,
  examples: [
    "qedit decode samples.safetensors -o out.png",
    "qedit sample --latents latents.safetensors --cond cond.safetensors -o - | qedit decode - -o out.png",
  ],
  positionals: [["<samples>", "what sample made, or ComfyUI's SaveLatent; - is stdin"]],
  options: { ...decode.options, ...writeOptions, format, ...computeOptions },
  async perform({ args, settings }, terminal) {
    checkInputs(args);
    const path = picturePath(settings, args[0]!, "");
    await checkOutput(path, settings, terminal);
    const found = await withModelFiles<typeof decode.options>(settings, ["vae"], terminal.emit);
    const { value, device, seconds } = await compute(settings, terminal, async (context) => {
      const samples = await inputArtifact(args[0]!, "samples");
      const picture = await timed(decode.name, context, () => decode.run({ samples }, found, context));
      await writeOutput(path, await encodeDecoded(picture, pictureFormat(path, settings.format)), {
        force: settings.force,
        terminal,
      });
      return picture.info;
    });
    if (path !== STREAM) terminal.result({ output: path, kind: "picture", info: value, device, seconds }, [path]);
  },
});
