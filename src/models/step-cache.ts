// The step cache of a transformer, first-block cache: where the first block adds to the tokens of a picture almost what it added at the last evaluation that
// was computed whole, the other blocks are not run, and what they added then is added again. As diffusers 0.39 hooks/first_block_cache.py, which is after
// ParaAttention (4de137c); see StepCachePart for the graphs.
import { choose } from "../graph/control-flow.js";
import type { Graph } from "../graph/graph.js";
import type { Value } from "../graph/value.js";

/** Input of a graph "head": the largest change, f32 [1], at which the other blocks are not run; negative: they are run, and nothing is compared. */
export const THRESHOLD = "threshold";
/** Output of a graph "head", f32 [1], see relativeChange; 0 where nothing was compared. */
export const CHANGE = "change";
/** Output of the last graph "tail", and input of "head": what all blocks but the first added to the tokens of the target, f32 [target, width]. */
export const TAIL_RESIDUAL = "tail_residual";

/** Name of an input of a graph "head": what another input or an output was at the last evaluation that was computed whole. */
export function before(name: string): string {
  return `${name}.before`;
}

/** What a first block gave, and what follows from it. The functions add nodes to the body of a choice: they may read what is in the graph. */
export interface FirstBlock {
  /** The tokens behind it by their names, [tokens, width] each. */
  readonly streams: Readonly<Record<string, Value>>;
  /** What it added to the tokens that are compared, f32 [tokens, width]: now, and at the last evaluation that was computed whole. */
  readonly residuals: () => { readonly now: Value; readonly before: Value };
  /** The velocity f32 [1, target, channels] where what the other blocks added then is added again. */
  readonly velocity: () => Value;
  readonly channels: number;
}

/**
 * Adds the decision of a graph "head", and one of two results: `velocity` where the other blocks need not be run, else the streams for the graphs
 * "tail". What is not given has no tokens.
 */
export function addReuse(graph: Graph, { streams, residuals, velocity, channels }: FirstBlock): void {
  const threshold = graph.input(THRESHOLD, "f32", [1]);
  const nothing = graph.constant("f32", [1], [0]);
  const change = choose(threshold.atLeast(0), { yes: () => relativeChange(residuals()), no: () => nothing });
  graph.output(CHANGE, change);
  // Not where the change is NaN.
  const isReused = threshold.atLeast(change);
  const given = (name: string, ways: { yes?: () => Value; no?: () => Value }, shape: Value["shape"]) => {
    const none = () =>
      graph.constant(
        "f32",
        shape.map((dim) => (typeof dim === "string" ? 0 : dim)),
        [],
      );
    graph.output(name, choose(isReused, { yes: ways.yes ?? none, no: ways.no ?? none, shape }));
  };
  for (const [name, x] of Object.entries(streams))
    given(name, { no: () => x.cast("f32") }, [`${name} or none`, x.dim(1)]);
  given("velocity", { yes: velocity }, [1, "velocity or none", channels]);
}

// mean |now − before| / mean |before|, f32 [1]. Both have as many elements: sums do.
function relativeChange({ now, before: then }: { readonly now: Value; readonly before: Value }): Value {
  const size = (x: Value) => x.max(x.mul(-1)).sumOver(1).sum().reshape([1]);
  return size(now.sub(then)).div(size(then));
}
