// Which values share a buffer, and when each buffer is allocated and freed, as ONNX Runtime decides when a session opens:
// onnxruntime/core/framework/allocation_planner.cc (1.29), without its memory pattern.
import type { Node } from "../../graph/node.js";
import { namesRead } from "../../graph/weight-nodes.js";
import { BLOCKED_CONV } from "./blocked-convolutions.js";
import { elementBytes, type RunGraph, runOrder, WRITES_OVER_INPUT } from "./run-graph.js";

/** What a node does to buffers. */
export interface BufferStep {
  readonly node: Node;
  /** Values whose buffers are allocated before it computes. */
  readonly allocated: readonly string[];
  /** Values whose buffers are freed after it. */
  readonly freed: readonly string[];
}

/** Operators that give what they are given in another shape. */
const ALIASES = new Set(["Reshape", "Identity"]);

/** The input that a convolution of the CPU writes over, where it has one. */
const ADDED_INPUT = 3;

/**
 * The steps of a run in their order. A value that is not read any more leaves its buffer to the next one of the same shape by the names of its
 * dimensions: lengths are not known yet. What the graph gives has buffers of its own, which no step frees.
 */
export function bufferPlan({ nodes, values, outputs }: RunGraph): BufferStep[] {
  const order = runOrder(nodes);
  const plan = new Planner(values, uses(order, outputs));
  const steps = order.map((node) => ({ node, allocated: plan.allocated(node, outputs) }));
  // Buffers are freed in the order of their values' numbers.
  const numbers = new Map(nodes.flatMap(({ outputs: names }) => names).map((name, number) => [name, number]));
  const freed = new Map<Node, string[]>();
  for (const [name, node] of plan.lastReaders)
    if (!outputs.has(name)) freed.set(node, [...(freed.get(node) ?? []), name]);
  return steps.map((step) => ({
    ...step,
    freed: (freed.get(step.node) ?? []).sort((a, b) => numbers.get(a)! - numbers.get(b)!),
  }));
}

// How often each value is read, with the node that makes it; what the graph gives once more.
function uses(order: readonly Node[], outputs: ReadonlySet<string>): Map<string, number> {
  const counts = new Map<string, number>();
  const names = order.flatMap((node) => [...namesRead(node), ...node.outputs]);
  for (const name of [...names, ...outputs]) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

class Planner {
  /** The last node that reads a buffer, by the value that it was allocated for. */
  readonly lastReaders = new Map<string, Node>();
  readonly #values: RunGraph["values"];
  readonly #uses: Map<string, number>;
  /** The value whose buffer a value is in, where it is not its own. */
  readonly #owners = new Map<string, string>();
  /** What a value and a buffer must share, by the value's name. */
  readonly #kinds = new Map<string, string>();
  /** Values that a node gives, and so have buffers. */
  readonly #made = new Set<string>();
  /** Buffers that hold nothing any more, the last one first. */
  readonly #free: string[] = [];

  constructor(values: RunGraph["values"], counts: Map<string, number>) {
    this.#values = values;
    this.#uses = counts;
  }

  allocated(node: Node, outputs: ReadonlySet<string>): string[] {
    const allocated: string[] = [];
    for (const name of node.outputs.filter((each) => each !== "")) {
      this.#made.add(name);
      const shared = outputs.has(name) ? undefined : (this.#input(node, name) ?? this.#freeBuffer(name));
      if (shared === undefined) allocated.push(name);
      else this.#share(shared, name);
    }
    for (const name of namesRead(node).filter((each) => each !== "")) {
      if (this.#made.has(this.#owner(name))) this.lastReaders.set(this.#owner(name), node);
      this.#release(name);
    }
    for (const name of node.outputs.filter((each) => each !== "")) this.#release(name);
    return allocated;
  }

  #owner(name: string): string {
    return this.#owners.get(name) ?? name;
  }

  // The input whose buffer the result takes.
  #input({ operator, inputs }: Node, output: string): string | undefined {
    if (ALIASES.has(operator)) return inputs[0];
    const isConvolution = operator === BLOCKED_CONV;
    const input = isConvolution ? inputs[ADDED_INPUT] : WRITES_OVER_INPUT.has(operator) ? inputs[0] : undefined;
    if (input === undefined || !this.#made.has(this.#owner(input))) return undefined;
    const isLast = this.#uses.get(this.#owner(input)) === 1;
    return isLast && (isConvolution || this.#kind(input) === this.#kind(output)) ? input : undefined;
  }

  #freeBuffer(name: string): string | undefined {
    const { shape, isUnshaped } = this.#values.get(name)!;
    if (isUnshaped || shape.length === 0) return undefined;
    const kind = this.#kind(name);
    const at = this.#free.findIndex((each) => this.#kind(each) === kind);
    return at < 0 ? undefined : this.#free.splice(at, 1)[0];
  }

  #share(shared: string, name: string): void {
    const owner = this.#owner(shared);
    this.#owners.set(name, owner);
    this.#uses.set(owner, (this.#uses.get(owner) ?? 0) + (this.#uses.get(name) ?? 0));
  }

  #release(name: string): void {
    const owner = this.#owner(name);
    const left = (this.#uses.get(owner) ?? 0) - 1;
    this.#uses.set(owner, left);
    if (left === 0 && this.#made.has(owner)) this.#free.unshift(owner);
  }

  #kind(name: string): string {
    const known = this.#kinds.get(name);
    if (known !== undefined) return known;
    const value = this.#values.get(name)!;
    const kind = value.isUnshaped ? name : `${elementBytes(value)}[${value.shape.join()}]`;
    this.#kinds.set(name, kind);
    return kind;
  }
}
