// A child process that holds one network on one device, so that its memory and ONNX Runtime's output are separate. Uses Node's IPC channel for
// requests; ONNX Runtime prints its attention kernels to stdout.

import { createHash } from "node:crypto";
import { missingKernels } from "../../fixtures/kernels/kernels.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type Engine, modelOf, type Session } from "../../src/engine/sessions/engine.js";
import type { DType } from "../../src/graph/types.js";
import type { Tensors } from "../../src/std/tensor.js";
import { roundedEngine } from "../rounded-engine.js";
import { type BuiltNetwork, GPU_NETWORKS, type GpuNetworkName, type Opening } from "./networks.js";
import { type ParityRow, tinyParity } from "./parity.js";

/** Requests to the process. */
export type Question =
  | { readonly kind: "open"; readonly network: GpuNetworkName; readonly opening: Opening }
  | { readonly kind: "feed"; readonly references: number }
  | { readonly kind: "run"; readonly references: number }
  | { readonly kind: "dump"; readonly references: number; readonly path: string }
  | { readonly kind: "parity"; readonly opening: Opening };

/** Its answers; seconds are wall time. */
export interface Answers {
  readonly open: {
    readonly graph: number;
    readonly session: number;
    readonly nodes: number;
    /** Hash of the model as it was opened: equal for equal graphs that are optimized alike. */
    readonly form: string;
    readonly compute: DType;
    readonly withoutKernel: readonly string[];
  };
  /** The feeds of a run are computed and kept. */
  readonly feed: Record<string, never>;
  readonly run: { readonly seconds: number };
  /** Feeds and outputs as a .safetensors file, for another implementation to repeat the run. */
  readonly dump: Record<string, never>;
  readonly parity: readonly ParityRow[];
}

let open: { readonly engine: Engine; readonly built: BuiltNetwork; readonly session: Session } | undefined;
const fed = new Map<number, Tensors>();

process.on("message", (question: Question) => {
  answer(question).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ failure: error instanceof Error ? error.message : String(error) }),
  );
});

async function answer(question: Question): Promise<Answers[Question["kind"]]> {
  switch (question.kind) {
    case "open":
      return openNetwork(question.network, question.opening);
    case "feed":
      await feeds(question.references);
      return {};
    case "run":
      return timed(await feeds(question.references));
    case "dump":
      await dump(question.path, await feeds(question.references));
      return {};
    case "parity":
      return tinyParity(await engineOf(question.opening));
  }
}

async function openNetwork(network: GpuNetworkName, opening: Opening): Promise<Answers["open"]> {
  const start = performance.now();
  const built = await GPU_NETWORKS[network](opening);
  const model = await modelOf(built.graph, built.optimization);
  const ready = performance.now();
  const engine = await engineOf(opening);
  open = { engine, built, session: await engine.open(model) };
  const missing = missingKernels(built.graph, opening.device.provider);
  return {
    graph: (ready - start) / 1000,
    session: (performance.now() - ready) / 1000,
    nodes: built.graph.nodes.length,
    form: createHash("sha256").update(model.optimization).update(model.bytes).digest("hex"),
    compute: built.compute,
    withoutKernel: missing.map(({ node, reason }) => `${node}: ${reason}`),
  };
}

async function engineOf({ device, isRehearsal }: Opening): Promise<Engine> {
  return isRehearsal
    ? roundedEngine(await directEngine({ provider: "cpu", index: 0, threads: 0 }), device)
    : directEngine(device);
}

function opened(): NonNullable<typeof open> {
  if (!open) throw new Error("internal: no network is open");
  return open;
}

async function feeds(references: number): Promise<Tensors> {
  const { built, engine } = opened();
  const known = fed.get(references) ?? (await built.feeds(references, engine));
  fed.set(references, known);
  return known;
}

async function timed(inputs: Tensors): Promise<Answers["run"]> {
  const start = performance.now();
  await opened().session.run(inputs);
  return { seconds: (performance.now() - start) / 1000 };
}

async function dump(path: string, inputs: Tensors): Promise<void> {
  const { session, built } = opened();
  await writeSafetensors(path, { ...inputs, ...built.beside, ...(await session.run(inputs)) } as never);
}
