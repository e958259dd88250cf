// Building and running one network over a fixture, with any inner value as an extra output.
import type { GraphForm } from "../../bench/graph-forms.js";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { type Adapter, Weights } from "../../src/checkpoint/weights.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, type Optimization, type Session } from "../../src/engine/sessions/engine.js";
import { wideningOf } from "../../src/engine/sessions/optimization.js";
import { Graph } from "../../src/graph/graph.js";
import type { Widening } from "../../src/graph/types.js";

/** An opened network, with the tensors of its file that no graph read. */
export interface OpenNetwork extends AsyncDisposable {
  readonly session: Session;
  readonly unused: readonly string[];
}

/** What to build, and which inner values (by node name) to give out under which tap names. */
export interface NetworkOptions {
  readonly build: (graph: Graph, weights: Weights) => void;
  readonly optimization: Optimization;
  readonly adapters?: readonly Adapter[];
  readonly forms?: readonly GraphForm[];
  readonly taps?: Readonly<Record<string, string>>;
  /** That of the optimization on the CPU, unless given. */
  readonly widening?: Widening;
}

const CPU = { provider: "cpu", index: 0, threads: 0 } as const;

/** Opens a network over a checkpoint on the CPU, in this thread. */
export async function openNetwork(checkpoint: Checkpoint, options: NetworkOptions): Promise<OpenNetwork> {
  const graph = new Graph("network", { widening: options.widening ?? wideningOf(options.optimization, CPU) });
  const weights = Weights.of(graph, checkpoint, options.adapters);
  options.build(graph, weights);
  for (const form of options.forms ?? []) form(graph);
  for (const [tap, name] of Object.entries(options.taps ?? {})) {
    const value = graph.values.find((each) => each.name === name);
    if (!value)
      throw new Error(
        `no value "${name}" to tap; there are ${graph.values
          .slice(0, 40)
          .map((each) => each.name)
          .join(", ")} …`,
      );
    graph.output(tap, value);
  }
  const engine = await directEngine(CPU);
  const session = await engine.open(await modelOf(graph, options.optimization));
  return { session, unused: weights.unused(), [Symbol.asyncDispose]: () => engine.dispose() };
}
