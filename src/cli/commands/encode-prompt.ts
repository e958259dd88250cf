// qedit encode-prompt: a prompt, with the pictures it speaks of, to embeddings.
import { runStage } from "../../edit/run-stage.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { defineCommand } from "../command.js";
import { withModelFiles } from "../compute.js";
import { checkInputs, inputPictures, inputText } from "../files/input.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/options.js";
import { computeArtifact } from "../stage-command.js";

/** `qedit encode-prompt photo.jpg -p "…" -o cond.safetensors`. */
export const encodePromptCommand = defineCommand({
  summary: encodePrompt.summary,
  examples: [
    'qedit encode-prompt photo.jpg -p "make it black and white" -o cond.safetensors',
    "cat prompt.txt | qedit encode-prompt photo.jpg -p -",
  ],
  positionals: [["[image...]", "pictures, in the order the prompt counts them; - is stdin"]],
  options: { ...encodePrompt.options, ...writeOptions, ...cacheOptions, ...computeOptions },
  async perform({ args, settings }, terminal) {
    checkInputs([...args, settings.prompt]);
    const path = settings.output ?? "cond.safetensors";
    await computeArtifact({ path, settings, terminal }, async (context) => {
      const found = await withModelFiles<typeof encodePrompt.options>(settings, ["textEncoder"], terminal.emit);
      const complete = { ...found, prompt: await inputText(settings.prompt) };
      const pictures = await inputPictures(args);
      return (await runStage({ stage: encodePrompt, inputs: { pictures }, settings: complete }, context)).artifact;
    });
  },
});
