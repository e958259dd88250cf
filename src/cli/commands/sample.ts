// qedit sample: latents and a prompt's embeddings to samples.
import { runStage } from "../../edit/run-stage.js";
import { mandatoryText } from "../../stages/option.js";
import { sample } from "../../stages/sample.js";
import { defineCommand } from "../command.js";
import { withModelFiles } from "../compute.js";
import { checkInputs, inputArtifact } from "../files/input.js";
import { presetOptions, resolveSettings } from "../settings/edit-settings.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/options.js";
import { drawSeed } from "../settings/seeds.js";
import { computeArtifact } from "../stage-command.js";

const inputs = {
  latents: mandatoryText({ flags: "--latents <file>", summary: "what encode-image made; - is stdin", group: "Prompt" }),
  cond: mandatoryText({ flags: "--cond <file>", summary: "what encode-prompt made; - is stdin", group: "Prompt" }),
};

const options = { ...inputs, ...sample.options, ...presetOptions, ...writeOptions, ...cacheOptions, ...computeOptions };

/** `qedit sample --latents latents.safetensors --cond cond.safetensors -o samples.safetensors`. */
export const sampleCommand = defineCommand({
  summary: sample.summary,
  examples: ["qedit sample --latents latents.safetensors --cond cond.safetensors --seed 42 -o samples.safetensors"],
  options,
  async perform({ settings: unresolved, given }, terminal) {
    const settings = await resolveSettings({ table: options, settings: unresolved, given, emit: terminal.emit });
    checkInputs([settings.latents, settings.cond]);
    const path = settings.output ?? "samples.safetensors";
    await computeArtifact({ path, settings, terminal }, async (context) => {
      const found = await withModelFiles<typeof sample.options>(settings, ["transformer"], terminal.emit);
      const latents = await inputArtifact(settings.latents, "latents");
      const cond = await inputArtifact(settings.cond, "cond");
      const { settings: drawn, isDrawn } = drawSeed(found, terminal.emit);
      return (
        await runStage(
          { stage: sample, inputs: { latents, cond }, settings: drawn },
          isDrawn ? { ...context, cache: undefined } : context,
        )
      ).artifact;
    });
  },
});
