// Convolutions as ONNX Runtime lays them out on the CPU when it optimizes a graph: channels in blocks, with nodes that reorder what comes and goes.
// onnxruntime/core/optimizer/nchwc_transformer.cc (1.29).

import type { Node } from "../../graph/node.js";
import type { Shape } from "../../graph/types.js";
import type { RunGraph, RunValue } from "./run-graph.js";

/** Channels of a block on the processors with the widest: 16 with AVX-512, 8 with AVX2. */
const WIDEST_BLOCK = 16;

/** The operator of a convolution in blocks; input 3, if there is one, is added to its result in place. */
export const BLOCKED_CONV = "blocked Conv";

/** The graph with every convolution in blocks. Nodes that are added have the largest numbers. */
export function inBlocks({ nodes, values, outputs }: RunGraph): RunGraph {
  const blocked = new Blocks(nodes, values);
  for (const node of nodes) blocked.add(node);
  return { nodes: [...blocked.kept, ...blocked.added, ...blocked.reordered()], values: blocked.values, outputs };
}

class Blocks {
  readonly kept: Node[] = [];
  readonly added: Node[] = [];
  readonly values: Map<string, RunValue>;
  /** Names in blocks of values that are so. */
  readonly #names = new Map<string, string>();
  /** Places in `added` of the convolutions that nothing was added to yet, by the value that they give. */
  readonly #convolutions = new Map<string, number>();
  readonly #readers = new Map<string, number>();
  /** Readers of the values as they were. */
  readonly #plainReaders = new Set<string>();
  /** Values that are there as they were, and in blocks by a ReorderInput. */
  readonly #reorderedInputs = new Set<string>();

  constructor(nodes: readonly Node[], values: RunGraph["values"]) {
    this.values = new Map(values);
    for (const name of nodes.flatMap(({ inputs }) => inputs))
      this.#readers.set(name, (this.#readers.get(name) ?? 0) + 1);
  }

  add(node: Node): void {
    const { operator, inputs, outputs } = node;
    const [first, second] = inputs as [string, string];
    const [given] = outputs as [string];
    if (operator === "Conv" && !("group" in node.attributes)) {
      const channels = Number(this.values.get(first)!.shape[1]);
      // Too few channels for a block are read as they are.
      const read = channels < WIDEST_BLOCK ? first : this.#inBlocks(first);
      if (read === first) this.#plainReaders.add(first);
      this.#convolutions.set(given, this.added.length);
      this.added.push({
        ...node,
        operator: BLOCKED_CONV,
        inputs: [read, ...inputs.slice(1)],
        outputs: [this.#named(given)],
      });
    } else if (operator === "Add" && this.#names.has(first) && this.#names.has(second))
      this.#sum(node, [first, second]);
    else if (operator === "Resize" && this.#names.has(first))
      this.added.push({ ...node, inputs: [this.#names.get(first)!], outputs: [this.#named(given)] });
    else {
      this.kept.push(node);
      for (const name of inputs) this.#plainReaders.add(name);
    }
  }

  // A convolution adds to what nobody else reads of it, else an Add of blocks does.
  #sum(node: Node, terms: readonly [string, string]): void {
    const [given] = node.outputs as [string];
    for (const [index, term] of terms.entries()) {
      const place = this.#convolutions.get(term);
      if (place === undefined || this.#readers.get(term) !== 1) continue;
      const convolution = this.added[place]!;
      const inputs = [...convolution.inputs, "", ""].slice(0, 3);
      this.#convolutions.delete(term);
      const name = this.#named(given);
      this.added[place] = { ...convolution, inputs: [...inputs, this.#names.get(terms[1 - index]!)!], outputs: [name] };
      return;
    }
    const inputs = terms.map((name) => this.#names.get(name)!);
    this.added.push({ ...node, inputs, outputs: [this.#named(given)] });
  }

  #inBlocks(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    this.#plainReaders.add(name);
    const output = this.#named(name);
    this.added.push({
      name: output,
      operator: "ReorderInput",
      domain: "",
      inputs: [name],
      outputs: [output],
      attributes: {},
    });
    this.#reorderedInputs.add(name);
    return output;
  }

  /** Nodes that give values as they were to those that read them so. */
  reordered(): Node[] {
    return [...this.#names].flatMap(([name, input]) =>
      this.#plainReaders.has(name) && !this.#reorderedInputs.has(name)
        ? [
            {
              name: `${input} reordered`,
              operator: "ReorderOutput",
              domain: "",
              inputs: [input],
              outputs: [name],
              attributes: {},
            },
          ]
        : [],
    );
  }

  #named(name: string): string {
    const { shape, dtype } = this.values.get(name)!;
    const inBlocks = `${name} in blocks`;
    this.#names.set(name, inBlocks);
    this.values.set(inBlocks, { shape: padded(shape), dtype, isUnshaped: true });
    return inBlocks;
  }
}

function padded([batch, channels, ...area]: Shape): Shape {
  return [batch!, paddedChannels(Number(channels)), ...area];
}

/** Channels with those that fill up the last block. */
export function paddedChannels(channels: number): number {
  return Math.ceil(channels / WIDEST_BLOCK) * WIDEST_BLOCK;
}
