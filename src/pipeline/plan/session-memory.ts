// Memory of one open network while it runs: what it holds of its weights, and what a run takes besides.
import type { Device } from "../../engine/providers.js";
import type { Node } from "../../graph/graph.js";
import { ELEMENT, type DType } from "../../graph/types.js";
import { lengthOf, type Lengths } from "../../graph/liveness.js";
import { count, weightBytes, weightElements } from "./graph-cost.js";
import { deviceBytes } from "../../stages/within-memory.js";
import type { NetworkMemory } from "./edit-memory.js";
import type { PlannedNetwork } from "./networks.js";
import { runMemory, type ShapeOf } from "./run-memory.js";

/** Bytes of one network at its largest run. */
export interface SessionMemory {
  /** RAM that the system cannot take back while it runs. */
  readonly ram: number;
  /** Weights read in place from their files: RAM that the system fills and takes back as it sees fit; what it takes back is read again. */
  readonly mapped: number;
  /** Memory of the GPU; 0 on the CPU. */
  readonly gpu: number;
}

/** RAM of Node.js, ONNX Runtime and sharp with nothing open, and of the tokenizer's tables, which stay: measured in runs of the tiny model (Node 20, ORT 1.29, Linux). */
const PROCESS_BYTES = 0.16e9;
const TOKENIZER_BYTES = 0.11e9;
/** The stage before the tokenizer is loaded. */
const WITHOUT_TOKENIZER = "encode-image";

/** RAM of a process that opened CUDA: a usual value, not measured here. */
const CUDA_HOST_BYTES = 0.6e9;

/** Folding 3-D kernels leaves half as much again as their float32 values (measured: 0.21 GB of the VAE encoder's weights held 0.30 GB, 0.29 GB of the decoder's 0.46 GB). */
const KERNEL_SHARE = 1.5;

/** A picture's or an embedding's tensor stands in the main thread and in the worker's. */
const COPIES = 2;

/** Where a network runs: the device, the pictures beside it in RAM, and its memory plan, where there is a limit or a GPU. */
export interface SessionPlace {
  readonly device: Device;
  readonly pictureBytes: number;
  readonly plan: Pick<NetworkMemory, "activations" | "peak"> | undefined;
}

/** Memory of a network in the largest of its runs. */
export function sessionMemory({ graph, optimization, compute, stage }: PlannedNetwork, runs: readonly Lengths[], { device, pictureBytes, plan }: SessionPlace): SessionMemory {
  const isFolded = optimization === "full";
  const fed = Math.max(0, ...runs.map((lengths) => COPIES * hostBytes(graph, lengths)));
  const host = PROCESS_BYTES + (stage === WITHOUT_TOKENIZER ? 0 : TOKENIZER_BYTES) + pictureBytes + fed;
  const stored = weightBytes(graph);
  if (plan && device.provider !== "cpu") return { ram: host + CUDA_HOST_BYTES, mapped: stored, gpu: deviceBytes(plan.peak, device) };
  if (plan) return { ram: host + (isFolded ? plan.peak : plan.activations), mapped: isFolded ? 0 : plan.peak - plan.activations, gpu: 0 };
  const hasKernels = graph.nodes.some(({ operator }) => operator === "Conv");
  const widened = isFolded ? weightElements(graph) * ELEMENT.f32.bytes * (hasKernels ? KERNEL_SHARE : 1) : 0;
  const scratch = (node: Node, shape: ShapeOf) => cpuScratch(node, shape, { isFolded, compute });
  const touched = Math.max(0, ...runs.map((lengths) => runMemory(graph, lengths, { isFolded, scratch }).touched));
  return { ram: host + widened + touched, mapped: isFolded ? 0 : stored, gpu: 0 };
}

// What kernels of the CPU provider take while they run, see onnxruntime/core/providers/cpu and contrib_ops/cpu/bert (1.29).
function cpuScratch(node: Node, shape: ShapeOf, { isFolded, compute }: { isFolded: boolean; compute: DType }): number {
  const { operator, inputs, outputs } = node;
  const bytes = (elements: number) => elements * ELEMENT[compute].bytes;
  // Channels are put in blocks before, and back after.
  if (operator === "Conv" && isFolded) return bytes(count(shape(inputs[0]!)) + count(shape(outputs[0]!)));
  if (operator !== "MultiHeadAttention" && operator !== "Attention") return 0;
  // Heads are put before tokens. Scores stand in memory whole where something is added to them, twice in ai.onnx's Attention, else block by block.
  const moved = inputs.slice(0, 3).reduce((sum, name) => sum + count(shape(name)), 0);
  const copies = operator === "Attention" ? 2 : inputs.length > 3 ? 1 : 0;
  const scores = headsOf(node) * shape(inputs[0]!)[1]! * shape(inputs[1]!)[1]!;
  return bytes(moved + copies * scores);
}

function headsOf({ attributes }: Node): number {
  const heads = attributes["num_heads"] ?? attributes["q_num_heads"];
  return heads && "int" in heads ? heads.int : 1;
}

function hostBytes(graph: PlannedNetwork["graph"], lengths: Lengths): number {
  const values = [...graph.inputs.values(), ...graph.outputs.values()];
  return values.reduce((sum, { shape, dtype }) => sum + shape.reduce<number>((elements, dim) => elements * lengthOf(dim, lengths), ELEMENT[dtype].bytes), 0);
}
