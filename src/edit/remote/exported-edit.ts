// A whole edit by one exported model: this machine makes its inputs, and of its picture what decoding gives, with the record of an edit made here.
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import type { Image } from "../../image/image.js";
import { resultPlace } from "../../stages/decode.js";
import { announceImages, imageSizePlan, latentsInfo } from "../../stages/encode-image.js";
import { announcePrompts, condInfo, refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { samplesInfo } from "../../stages/networks/sampled-parts.js";
import type { Picture } from "../../stages/pictures.js";
import { recordedSampling, samplingOf } from "../../stages/sample.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import { clientInputs, plannedVae, promptInput, seenByClient } from "./client-inputs.js";
import { numbersOfFacts } from "./exported-facts.js";
import { condFacts, decodedThere, sampleFacts, type ThereContext, tokenizerOf, vaeFacts } from "./exported-stages.js";
import type { ExportedThere } from "./exported-there.js";

/** The decoded picture of an edit, and its record. Throws V2CallError, QEDIT_E_NETWORK, QEDIT_E_BAD_OUTPUT. */
export async function editThere(
  there: ExportedThere,
  { pictures, settings }: { readonly pictures: readonly Picture[]; readonly settings: ResolvedSettings },
  context: ThereContext,
): Promise<{ readonly image: Image; readonly info: ArtifactInfo }> {
  const { facts, from } = there;
  const { emit } = context;
  const { prompt, negativePrompt } = settings;
  const numbers = numbersOfFacts(facts);
  refuseEmptyPrompt(settings);
  announceImages(pictures, { settings, vae: plannedVae(numbers) }, emit);
  announcePrompts(settings, emit);
  const tokenizer = await tokenizerOf(facts, context);
  const plan = imageSizePlan(pictures, settings, plannedVae(numbers));
  const edit = { pictures, prompt, negativePrompt, sizes: settings, sampling: samplingOf(settings) };
  const inputs = clientInputs(edit, numbers, tokenizer);
  const { width, height } = plan.target.latent;
  const shape = [height * numbers.cell, width * numbers.cell, numbers.imageChannels];
  emit({ kind: "note", text: `the edit is made on ${from}, which reports no steps` });
  const { image } = await there.run(inputs, { image: { type: "uint8", shape } });
  const seen = seenByClient(pictures, settings, numbers);
  const { kept } = promptInput(prompt, seen, { match: settings.match, family: facts.family, tokenizer });
  const models = sampleFacts(facts);
  const samples = samplesInfo(
    {
      latents: latentsInfo(pictures, { plan, ...vaeFacts(facts) }, settings),
      cond: condInfo(pictures, { ...condFacts(facts), tokens: kept, seen }, settings),
    },
    models,
    { settings: recordedSampling(settings, models.loras, models.computed) },
  );
  return decodedThere(image, samples, { facts, place: resultPlace(samples, settings), settings });
}
