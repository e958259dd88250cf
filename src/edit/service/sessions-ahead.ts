// Prefetches sessions: while a stage computes, the network of the next stage opens in the engine's other thread, if both fit by the memory plan.
// The transformer opens during encode-prompt, the VAE decoder during sample.

import type { Model } from "../../engine/sessions/engine.js";
import { networkName } from "../../models/network-id.js";
import { visionConfig } from "../../models/text-encoders.js";
import { transformerOf } from "../../models/transformers.js";
import { vaeNumbers } from "../../models/vaes.js";
import { decode, decodedModel } from "../../stages/decode.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { sampledTokens } from "../../stages/networks/transformer-plan.js";
import { sourceOf } from "../../stages/pictures.js";
import { sample, sampledModel } from "../../stages/sample.js";
import type { ProgressEvent } from "../../std/events.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import { editLengths } from "../plan/edit-lengths.js";
import { type EditMemory, editMemory } from "../plan/edit-memory.js";
import type { EditModels, ResolvedEdit } from "../resolve/resolve-edit.js";
import { tensorLengths } from "../tensors/tensor-lengths.js";
import type { EditContext } from "./context.js";
import type { SubmittedEdit } from "./open-edit.js";
import type { OpenedAhead } from "./session-pool.js";

/** Prefetching in progress. */
export interface OpeningAhead {
  /** The context to run stages with; its events drive the prefetching. */
  readonly context: EditContext;
  /** Stops prefetching, and closes sessions that were not used. */
  readonly stop: () => Promise<void>;
}

/** An edit whose stages all run here. */
type LocalEdit = ResolvedEdit & {
  readonly models: { readonly [Role in keyof EditModels]: NonNullable<EditModels[Role]> };
};

/** The graphs that may open ahead, by stage. */
const MODELS: Readonly<
  Record<string, (edit: LocalEdit, context: EditContext, sampled: SampledTokens) => Promise<Model>>
> = {
  [sample.name]: sampledModel,
  [decode.name]: decodedModel,
};

/** Prefetches the networks of an edit by its memory plan. Does nothing on the CPU, without a memory limit, or where a stage runs elsewhere. */
export function openAhead(edit: SubmittedEdit, context: EditContext): OpeningAhead {
  const { engine, signal, emit, vram } = context;
  const { resolved } = edit;
  if (vram === undefined || engine.device.provider === "cpu" || !isLocal(resolved))
    return { context, stop: async () => {} };
  const started = new Set<string>();
  const opened = new Map<string, Promise<OpenedAhead | undefined>>();
  let current: string | undefined;
  let planned: Promise<Planned> | undefined;

  const plan = () => (planned ??= planOf(resolved, edit, context));
  const open = async (stage: string) => {
    const { networks, sampled } = await plan();
    const network = networks.find((each) => each.stage === stage && each.opensDuring !== stage);
    if (network === undefined || started.has(stage)) return undefined;
    const model = await MODELS[stage]!(resolved, context, sampled);
    if (started.has(stage) || signal.aborted) return undefined;
    emit({
      kind: "plan",
      lines: [`${networkName(network.network)}: opens during ${network.opensDuring}, which it fits beside`],
    });
    return engine.openAhead(model);
  };
  const prefetch = (stage: string) => {
    // The stage itself reports what is wrong with a file.
    const refused = (error: Error) =>
      void emit({ kind: "detail", text: `nothing opens ahead for ${stage}: ${error.message}` });
    if (!opened.has(stage)) opened.set(stage, open(stage).catch(refused));
  };
  const close = async (stage: string) => {
    started.add(stage);
    await (await opened.get(stage))?.close();
  };
  const follow = (event: ProgressEvent) => {
    if (event.kind === "start") started.add((current = event.stage));
    // Waits for activity: a stage whose result is cached computes nothing, and the next result may be cached too.
    if (event.kind === "activity") plan().catch(() => {}); // errors are reported by open()
    if (event.kind === "activity" && current === encodePrompt.name) prefetch(sample.name);
    if (event.kind === "step" && current === sample.name) prefetch(decode.name);
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

function isLocal(edit: ResolvedEdit): edit is LocalEdit {
  return Object.values(edit.models).every((model) => model !== undefined);
}

type SampledTokens = ReturnType<typeof sampledTokens>;

/** The memory plan of an edit, and what of its lengths the transformer's depends on. */
interface Planned extends EditMemory {
  readonly sampled: SampledTokens;
}

// The same plan that `qedit plan` shows.
async function planOf(
  { models, settings }: LocalEdit,
  { pictures, tensors }: SubmittedEdit,
  { engine: { device }, vram, memoize }: EditContext,
): Promise<Planned> {
  const { vae, textEncoder, transformer, loras } = models;
  const networks = {
    vae: vaeNumbers(numbersOf(vae.checkpoint)),
    vision: visionConfig(numbersOf(textEncoder.checkpoint), textEncoder.config),
    sampled: transformerOf(numbersOf(transformer.checkpoint), transformer.config, settings),
  };
  const planned = async () => {
    const sources = (await pictures()).map(sourceOf);
    return editLengths(sources, { settings, networks, tokenizer: await memoize("tokenizer", loadTokenizer) });
  };
  const lengths = tensors ? tensorLengths(tensors, networks) : await planned();
  const adapters = loras.map(({ adapter }) => adapter);
  const memory = editMemory(lengths, { parts: models, adapters, types: settings, limit: { device, vram } });
  return { ...memory, sampled: sampledTokens(lengths.tokens) };
}
