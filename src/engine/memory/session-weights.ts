// What the weights of an open session take on the CPU: copies in memory that ONNX Runtime makes when it opens, and what stays in the file.
import type { External, Graph } from "../../graph/graph.js";
import type { Node } from "../../graph/node.js";
import { BLOCKED_CONV } from "./blocked-convolutions.js";
import { elementBytes, type RunGraph, type RunValue } from "./run-graph.js";
import { runGraph } from "./session-graph.js";

/** Bytes of a session's weights. */
export interface WeightMemory {
  /** In memory of the process, while the session is open. */
  readonly resident: number;
  /** In memory of the process at most, while it opens. */
  readonly opening: number;
  /** Read in place, from the mapped file. */
  readonly mapped: number;
  /** What the heap keeps when the session has closed, and gives to the next one. */
  readonly left: number;
}

/**
 * What folded kernels of convolutions take for each byte: they are folded, then laid out in blocks, and the heap does not give all of it back.
 * Measured on Linux with glibc 2.36 (bench/plan-memory.ts): 2.0 (the VAE encoder) and 2.2 (its decoder).
 */
const KERNEL_COPIES = 2.5;

/** Of these, what is left when the session has closed: measured as the above after the VAE encoder. */
const KERNEL_COPIES_LEFT = 0.8;

/** Copies of the largest folded weight while a session opens, beside the one that stays. Measured as the above. */
const OPENING_COPIES = 2;

/** What the weights of a graph take in a session. */
export function weightMemory(graph: Graph, { isFolded }: { readonly isFolded: boolean }): WeightMemory {
  return isFolded ? folded(graph) : inPlace(graph);
}

// Products lay constant factors out anew; all other weights are read from the file.
function inPlace(graph: Graph): WeightMemory {
  const copied = new Set(graph.nodes.flatMap((node) => laidOut(node, graph.externals)));
  const bytes = (externals: readonly External[]) => sum(externals.map(({ length }) => length));
  const all = [...graph.externals];
  const resident = bytes(all.flatMap(([name, external]) => (copied.has(name) ? [external] : [])));
  const mapped = bytes(distinct(all.flatMap(([name, external]) => (copied.has(name) ? [] : [external]))));
  return { resident, opening: resident, mapped, left: 0 };
}

function laidOut({ operator, inputs, attributes }: Node, externals: Graph["externals"]): string[] {
  const factor = inputs[1] ?? "";
  const { bits } = attributes;
  const isCopied =
    operator === "MatMulNBits"
      ? bits !== undefined && "int" in bits && bits.int === 4
      : (operator === "Gemm" || operator === "MatMul") && externals.get(factor)?.dtype === "f32";
  return isCopied && externals.has(factor) ? [factor] : [];
}

// Two names may stand for the same bytes.
function distinct(externals: readonly External[]): External[] {
  return [...new Map(externals.map((each) => [`${each.offset} ${each.length} ${each.file}`, each])).values()];
}

// What the nodes of a run read that none of them gives, as float32.
function folded(graph: Graph): WeightMemory {
  const run = runGraph(graph, { isFolded: true });
  const fixed = fixedValues(run, graph);
  const kernels = new Set(run.nodes.flatMap(({ operator, inputs }) => (operator === BLOCKED_CONV ? [inputs[1]!] : [])));
  const sizes = (isKernel: boolean) =>
    [...fixed].flatMap(([name, value]) => (kernels.has(name) === isKernel ? [bytesOf(value)] : []));
  const [kernelBytes, others] = [sum(sizes(true)), sizes(false)];
  const resident = Math.ceil(KERNEL_COPIES * kernelBytes) + sum(others);
  return {
    resident,
    opening: resident + OPENING_COPIES * Math.max(0, ...others),
    mapped: 0,
    left: Math.ceil(KERNEL_COPIES_LEFT * kernelBytes),
  };
}

function fixedValues({ nodes, values }: RunGraph, { inputs }: Graph): ReadonlyMap<string, RunValue> {
  const given = new Set([...inputs.keys(), ...nodes.flatMap(({ outputs }) => outputs)]);
  const read = nodes.flatMap((node) => node.inputs).filter((name) => name !== "" && !given.has(name));
  return new Map(read.map((name) => [name, values.get(name)!]));
}

function bytesOf(value: RunValue): number {
  return value.shape.reduce<number>((bytes, dim) => bytes * Number(dim), elementBytes(value));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
