// A process that holds one network on one device, so that its memory and what ONNX Runtime prints are its own. Asked and answered over
// Node's channel between processes; stdout is ONNX Runtime's, which tells its attention kernels there.
import { directEngine } from "../../src/engine/direct.js";
import { modelOf, type Session } from "../../src/engine/engine.js";
import { missingKernels } from "../../src/engine/kernels.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors-writer.js";
import type { Tensors } from "../../src/tensor.js";
import { GPU_NETWORKS, type GpuNetworkName, type Opening } from "./networks.js";
import { tinyParity, type ParityRow } from "./parity.js";

/** What the process is asked. */
export type Question =
  | { readonly kind: "open"; readonly network: GpuNetworkName; readonly opening: Opening }
  | { readonly kind: "run"; readonly references: number }
  | { readonly kind: "dump"; readonly references: number; readonly path: string }
  | { readonly kind: "parity"; readonly opening: Opening };

/** What it answers; seconds are wall time. */
export interface Answers {
  readonly open: { readonly graph: number; readonly session: number; readonly nodes: number; readonly withoutKernel: readonly string[] };
  readonly run: { readonly seconds: number };
  /** Feeds and results as a .safetensors file, for another implementation to repeat. */
  readonly dump: Record<string, never>;
  readonly parity: readonly ParityRow[];
}

let session: Session | undefined;
let feedsOf: ((references: number) => Tensors) | undefined;
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
      return open(question.network, question.opening);
    case "run":
      return timed(() => opened().run(feeds(question.references)));
    case "dump":
      await dump(question.path, feeds(question.references));
      return {};
    case "parity":
      return tinyParity(question.opening);
  }
}

async function open(network: GpuNetworkName, opening: Opening): Promise<Answers["open"]> {
  const start = performance.now();
  const built = await GPU_NETWORKS[network](opening);
  const model = await modelOf(built.graph, built.optimization);
  const ready = performance.now();
  session = await (await directEngine(opening.device)).open(model);
  feedsOf = built.feeds;
  const missing = missingKernels(built.graph, opening.device.provider);
  return {
    graph: (ready - start) / 1000,
    session: (performance.now() - ready) / 1000,
    nodes: built.graph.nodes.length,
    withoutKernel: missing.map(({ node, reason }) => `${node}: ${reason}`),
  };
}

function opened(): Session {
  if (!session) throw new Error("internal: no network is open");
  return session;
}

function feeds(references: number): Tensors {
  const known = fed.get(references) ?? feedsOf!(references);
  fed.set(references, known);
  return known;
}

async function timed(work: () => Promise<unknown>): Promise<Answers["run"]> {
  const start = performance.now();
  await work();
  return { seconds: (performance.now() - start) / 1000 };
}

async function dump(path: string, inputs: Tensors): Promise<void> {
  await writeSafetensors(path, { ...inputs, ...(await opened().run(inputs)) } as never);
}
