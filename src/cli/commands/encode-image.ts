// qedit encode-image: pictures to latents.
import { runStage } from "../../edit/run-stage.js";
import { encodeImage } from "../../stages/encode-image.js";
import { defineCommand } from "../command.js";
import { withModelFiles } from "../compute.js";
import { checkInputs, inputPictures } from "../files/input.js";
import { resolveSettings } from "../settings/edit-settings.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/options.js";
import { computeArtifact } from "../stage-command.js";

const options = { ...encodeImage.options, ...writeOptions, ...cacheOptions, ...computeOptions };

/** `qedit encode-image photo.jpg -o latents.safetensors`. */
export const encodeImageCommand = defineCommand({
  summary: encodeImage.summary,
  examples: [
    "qedit encode-image photo.jpg -o latents.safetensors",
    "qedit encode-image photo.jpg -o - | qedit sample --latents - --cond cond.safetensors",
  ],
  positionals: [["<image...>", "pictures, in the order the prompt counts them; - is stdin"]],
  options,
  async perform({ args, settings: unresolved, given }, terminal) {
    const settings = await resolveSettings({ table: options, settings: unresolved, given, emit: terminal.emit });
    checkInputs(args);
    const path = settings.output ?? "latents.safetensors";
    await computeArtifact({ path, settings, terminal }, async (context) => {
      const found = await withModelFiles<typeof encodeImage.options>(settings, ["vae"], terminal.emit);
      const pictures = await inputPictures(args);
      return (await runStage({ stage: encodeImage, inputs: { pictures }, settings: found }, context)).artifact;
    });
  },
});
