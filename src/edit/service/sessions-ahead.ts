// While a stage computes, the network of the next one opens in the engine's other thread, where the memory plan has both fit: the transformer
// during encode-prompt, the VAE decoder during sample.
import type { Model } from "../../engine/sessions/engine.js";
import { transformerConfig } from "../../models/qwen-image/transformer-config.js";
import { vaeConfig } from "../../models/qwen-image/vae.js";
import { visionConfig } from "../../models/qwen2.5-vl/text-encoder-config.js";
import { decode, decodedModel } from "../../stages/decode.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { sourceOf } from "../../stages/pictures.js";
import { sample, sampledModel } from "../../stages/sample.js";
import type { ProgressEvent } from "../../std/events.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import { editLengths } from "../plan/edit-lengths.js";
import { type EditMemory, editMemory } from "../plan/edit-memory.js";
import type { ResolvedEdit } from "../resolve/resolve-edit.js";
import type { EditContext } from "./context.js";
import type { SubmittedEdit } from "./open-edit.js";
import type { OpenedAhead } from "./session-pool.js";

/** Opening that is under way. */
export interface OpeningAhead {
  /** The context whose events say what computes. */
  readonly context: EditContext;
  /** Ends it, and closes what nobody used. */
  readonly stop: () => Promise<void>;
}

/** The graph of a stage that may open ahead. */
const MODELS: Readonly<Record<string, (edit: ResolvedEdit, context: EditContext) => Promise<Model>>> = {
  [sample.name]: sampledModel,
  [decode.name]: decodedModel,
};

/** Follows an edit, and opens its networks before their stages, where its memory plan says so: on a GPU whose memory is known. */
export function openAhead(edit: SubmittedEdit, context: EditContext): OpeningAhead {
  const { engine, signal, emit, vram } = context;
  if (vram === undefined || engine.device.provider === "cpu") return { context, stop: async () => {} };
  const begun = new Set<string>();
  const asked = new Map<string, Promise<OpenedAhead | undefined>>();
  let current: string | undefined;
  let memory: Promise<EditMemory> | undefined;

  const plan = () => (memory ??= memoryOf(edit, context));
  const open = async (stage: string) => {
    const { networks } = await plan();
    const network = networks.find((each) => each.stage === stage && each.opensDuring !== stage);
    if (network === undefined || begun.has(stage)) return undefined;
    const model = await MODELS[stage]!(edit.resolved, context);
    if (begun.has(stage) || signal.aborted) return undefined;
    emit({ kind: "plan", lines: [`${network.network}: opens during ${network.opensDuring}, which it fits beside`] });
    return engine.openAhead(model);
  };
  const ask = (stage: string) => {
    // What is wrong with a file, its stage will say.
    const refused = (error: Error) =>
      void emit({ kind: "detail", text: `nothing opens ahead for ${stage}: ${error.message}` });
    if (!asked.has(stage)) asked.set(stage, open(stage).catch(refused));
  };
  const close = async (stage: string) => {
    begun.add(stage);
    await (await asked.get(stage))?.close();
  };
  const follow = (event: ProgressEvent) => {
    if (event.kind === "start") begun.add((current = event.stage));
    // A stage whose result is found computes nothing, and the next one's may be found too.
    if (event.kind === "activity") plan().catch(() => {}); // whoever needs it reports what is wrong
    if (event.kind === "activity" && current === encodePrompt.name) ask(sample.name);
    if (event.kind === "step" && current === sample.name) ask(decode.name);
    if (event.kind === "end")
      close(event.stage).catch((error: Error) =>
        emit({ kind: "detail", text: `what was opened for ${event.stage} is not closed: ${error.message}` }),
      );
  };
  return {
    context: {
      ...context,
      emit(event) {
        context.emit(event);
        follow(event);
      },
    },
    async stop() {
      await Promise.all(Object.keys(MODELS).map(close));
    },
  };
}

// The plan that `qedit plan` shows.
async function memoryOf(
  { resolved: { models, settings }, pictures }: SubmittedEdit,
  { engine: { device }, vram, memoize }: EditContext,
): Promise<EditMemory> {
  const { vae, textEncoder, transformer, loras } = models;
  const networks = {
    vae: vaeConfig(numbersOf(vae.checkpoint)),
    vision: visionConfig(numbersOf(textEncoder.checkpoint), textEncoder.config),
    sampled: transformerConfig(numbersOf(transformer.checkpoint), transformer.config),
  };
  const sources = (await pictures()).map(sourceOf);
  const lengths = editLengths(sources, { settings, networks, tokenizer: await memoize("tokenizer", loadTokenizer) });
  const adapters = loras.map(({ adapter }) => adapter);
  return editMemory(lengths, { parts: models, adapters, types: settings, limit: { device, vram } });
}
