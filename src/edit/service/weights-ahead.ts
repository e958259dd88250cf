// Prefetches weights into the page cache: the text encoder's during encode-image, then the transformer's. Stops for a stage that has ended or
// whose result was cached.
import { freemem } from "node:os";
import type { StoredTensor } from "../../checkpoint/checkpoint.js";
import { type FileRange, rangesOf, readAhead } from "../../checkpoint/read-ahead.js";
import { textEncoderOf } from "../../models/text-encoders.js";
import { transformerOf } from "../../models/transformers.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { sample } from "../../stages/sample.js";
import type { ProgressEvent } from "../../std/events.js";
import type { EditModels } from "../resolve/resolve-edit.js";
import type { EditContext } from "./context.js";
import type { SubmittedEdit } from "./open-edit.js";

/** Bytes of memory that stay free for computing. */
const LEFT_BYTES = 2 * 1024 ** 3;

/** Reading in progress. */
export interface ReadingAhead {
  /** The context to run stages with; its events start and stop the reading. */
  readonly context: EditContext;
  /** Stops the reading, and waits until its files are closed. */
  readonly stop: () => Promise<void>;
}

/** Reads the weights of later stages while memory is free. */
export function readAheadOf({ resolved: { models } }: SubmittedEdit, context: EditContext): ReadingAhead {
  const wanted = new Map(
    [encodePrompt, sample].map(({ name }): [string, AbortController] => [name, new AbortController()]),
  );
  const signalOf = (stage: string) => AbortSignal.any([wanted.get(stage)!.signal, context.signal]);
  let reading: Promise<void> | undefined;
  const read = async () => {
    for (const [stage, ranges] of weightsOf(models, context))
      await readStage(stage, ranges, { signal: signalOf(stage), context });
  };
  return {
    context: {
      ...context,
      emit(event) {
        // The stage itself reports files that cannot be read.
        if (event.kind === "start") reading ??= read().catch(() => {});
        if (isOver(event)) wanted.get(event.stage)?.abort();
        context.emit(event);
      },
    },
    async stop() {
      for (const controller of wanted.values()) controller.abort();
      await reading;
    },
  };
}

function isOver(event: ProgressEvent): event is ProgressEvent & { readonly stage: string } {
  return event.kind === "end" || (event.kind === "cache" && event.action === "hit");
}

function weightsOf(
  { textEncoder, transformer }: EditModels,
  { engine }: EditContext,
): [stage: string, ranges: FileRange[]][] {
  // On a GPU the transformer's session has no modulation weights.
  const modulation =
    engine.device.provider === "cpu" || transformer === undefined
      ? undefined
      : transformerOf(numbersOf(transformer.checkpoint), transformer.config).modulation;
  const isIdle = (name: string) => modulation?.isModule(name.replace(/\.[^.]+$/, "")) ?? false;
  return [
    [encodePrompt.name, rangesOf(textEncoder === undefined ? [] : readTensors(textEncoder))],
    [
      sample.name,
      rangesOf(
        [...(transformer?.checkpoint.tensors ?? [])].flatMap(([name, stored]) => (isIdle(name) ? [] : [stored])),
      ),
    ],
  ];
}

function readTensors({ checkpoint }: ModelHandle): readonly StoredTensor[] {
  const { isIdle } = textEncoderOf(numbersOf(checkpoint));
  return [...checkpoint.tensors].flatMap(([name, stored]) => (isIdle(name) ? [] : [stored]));
}

async function readStage(
  stage: string,
  ranges: readonly FileRange[],
  { signal, context }: { signal: AbortSignal; context: EditContext },
): Promise<void> {
  const bytes = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  // Reading more than fits would evict pages in use.
  if (bytes > availableMemory() - LEFT_BYTES) return;
  const start = performance.now();
  const done = await readAhead(ranges, { signal, hasRoom: () => availableMemory() > LEFT_BYTES });
  const seconds = (performance.now() - start) / 1000;
  if (!signal.aborted)
    context.emit({
      kind: "detail",
      text: `${(done / 1e6).toFixed(1)} MB of ${stage}'s weights read ahead in ${seconds.toFixed(2)} s`,
    });
}

function availableMemory(): number {
  return process.availableMemory?.() ?? freemem();
}
