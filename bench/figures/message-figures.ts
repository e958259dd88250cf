// What a step of the transformer costs beside its computation: the messages to the engine's thread and back, at a megapixel with one reference.

import { directEngine } from "../../src/engine/sessions/direct.js";
import { type Engine, modelOf } from "../../src/engine/sessions/engine.js";
import { threadedEngine } from "../../src/engine/sessions/threaded.js";
import { Graph } from "../../src/graph/graph.js";
import { withChain } from "../../src/stages/networks/block-groups.js";
import { float32, given } from "../../src/std/tensor.js";
import { inTurns, type Part } from "./figure.js";

const DEVICE = { provider: "cpu", index: 0, threads: 1 } as const;
const STEPS = 50;
/** Tokens of a megapixel, and of a prompt with a picture. */
const [IMAGE, TEXT] = [4096, 250];
/** Blocks times shifts, scales and gates of both streams, and the last two vectors. */
const MODULATION = 60 * 2 * 6 + 2;
const GOAL = 1;

/** Inputs of the published transformer by their shapes: what changes from step to step, of which the modulation is given away, and what stays. */
const TARGET = { latent_tokens: [1, IMAGE, 64] } as const;
const GIVEN = { "modulation.0": [MODULATION, 3072] } as const;
const LASTING = {
  reference_tokens: [1, IMAGE, 64],
  prompt_embeds: [1, TEXT, 3584],
  rope_cos: [1, TEXT + 2 * IMAGE, 64],
  rope_sin: [1, TEXT + 2 * IMAGE, 64],
} as const;

/** Messages: what a step takes by the engine's thread beyond what it takes in this one, where nothing is sent. */
export const MESSAGES: Part = {
  what: "messages of a step",
  async measure() {
    const [here, there] = [await directEngine(DEVICE), threadedEngine(DEVICE)];
    try {
      const [direct, threaded] = await withStep(here, (stepHere) =>
        withStep(there, (stepThere) => inTurns([stepHere, stepThere], STEPS)),
      );
      return [{ name: "messages of a step", unit: "ms", qedit: threaded! - direct!, goal: { value: GOAL } }];
    } finally {
      await Promise.all([here.dispose(), there.dispose()]);
    }
  },
};

// Gives a function that feeds a step and gives its milliseconds. The graph asks for a length of each input, so that it computes next to nothing.
async function withStep<T>(engine: Engine, use: (step: () => Promise<number>) => Promise<T>): Promise<T> {
  const graph = new Graph("a step");
  const lengths = Object.entries({ ...TARGET, ...GIVEN, ...LASTING }).map(([name, shape]) =>
    graph.input(name, "f32", shape).shapeValue(0, 1),
  );
  for (const [index, length] of lengths.entries()) graph.output(`length.${index}`, length);
  graph.output("velocity", graph.inputs.get("latent_tokens")!);
  const lasting = tensorsOf(LASTING);
  const context = { engine, signal: new AbortController().signal, emit: () => {} };
  const options = {
    models: [await modelOf(graph, "none")],
    opensAhead: false,
    lasting: new Set(Object.values(lasting)),
  };
  return withChain(context, options, (chain) =>
    use(async () => {
      const feeds = { ...lasting, ...tensorsOf(TARGET), ...given(tensorsOf(GIVEN)) };
      const start = performance.now();
      await chain.run([feeds]);
      return performance.now() - start;
    }),
  );
}

function tensorsOf(shapes: Readonly<Record<string, readonly number[]>>) {
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      float32(shape, new Float32Array(shape.reduce((product, dim) => product * dim, 1)).fill(1)),
    ]),
  );
}
