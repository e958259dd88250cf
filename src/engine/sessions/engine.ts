// Engines open graphs as sessions, sessions run them. Both are disposable.
import type { Graph } from "../../graph/graph.js";
import { weightsRoot } from "../../graph/locations.js";
import type { Tensor, Tensors, TensorType } from "../../std/tensor.js";
import type { Device } from "../providers.js";

/**
 * ONNX Runtime's graph optimization. "none" keeps weights as they are stored and opens fast: for graphs of fused operators over 8-bit
 * weights, which constant folding would expand in host memory. "widened" folds constants, and gives the numbers of "none" to the bit. "full" lays
 * out weights for the machine too, and products sum in another order then: for small networks with matrices in float32.
 */
export type Optimization = "none" | "widened" | "full";

/** An encoded graph. */
export interface Model {
  /** For messages. */
  readonly name: string;
  /** Id of the network that it is, or is a part of. */
  readonly network: string;
  /** The ONNX ModelProto; weights are external data. */
  readonly bytes: Uint8Array;
  /** Names of the graph's inputs. */
  readonly inputs: readonly string[];
  readonly optimization: Optimization;
  /** Folder that the locations of external data are relative to: the root of the file system, or of a drive. */
  readonly weightsRoot: string;
  /** Files by path, as they were when their headers were read (checkpoint/file-identity.ts); undefined: not known. */
  readonly stamps?: ReadonlyMap<string, string>;
  /** The Graph that was encoded, for planning memory; not sent to the worker. */
  readonly graph?: object;
  /** Whether its session is closed after one use, because it does not fit in memory beside others. */
  readonly isTransient?: boolean;
}

/** A tensor that stays where the engine's sessions live, so that runs take it without sending it again; until it is disposed, or the engine is. */
export interface KeptTensor {
  readonly type: TensorType;
  readonly shape: readonly number[];
  /** Frees its memory; may be called again. */
  dispose(): Promise<void>;
}

/** What a run is fed, by the names of the graph's inputs. */
export type Feeds = Readonly<Record<string, Tensor | KeptTensor>>;

/** Names of outputs that stay in the engine. */
export type KeptNames = "all" | readonly string[];

/** Kept tensors by name. */
export type KeptTensors = Readonly<Record<string, KeptTensor>>;

/** An opened graph with its weights in memory, until it is disposed. Runs are one at a time. */
export interface Session {
  /** Computes all outputs from all inputs; throws QEDIT_E_ENGINE or QEDIT_E_MEMORY. */
  run(feeds: Feeds): Promise<Tensors>;
  /** Computes all outputs, of which those of these names stay in the engine. Left out where nothing can stay. Throws as `run`. */
  runKept?(feeds: Feeds, names: KeptNames): Promise<Feeds>;
  /** Sends tensors to the engine, where they stay. Left out where nothing can stay. */
  keep?(tensors: Tensors): Promise<KeptTensors>;
  /** Frees the weights; may be called again. */
  dispose(): Promise<void>;
  /** Whether the process that it lived in has ended, so that it cannot run any more; left out where that cannot happen. */
  hasEnded?(): boolean;
}

/** Opens sessions on one device. */
export interface Engine {
  readonly device: Device;
  /** Throws QEDIT_E_ENGINE or QEDIT_E_MEMORY. */
  open(model: Model): Promise<Session>;
  /** Disposes the sessions that are still open; may be called again. */
  dispose(): Promise<void>;
}

/** Encodes a graph, or a part, of a network as an ONNX model. */
export async function modelOf(graph: Graph, optimization: Optimization, network = graph.name): Promise<Model> {
  // Loaded when first used: most commands need no protobuf.
  const { encodeModel } = await import("../../graph/onnx.js");
  return {
    name: graph.name,
    network,
    bytes: encodeModel(graph),
    inputs: [...graph.inputs.keys()],
    optimization,
    weightsRoot: weightsRoot(graph),
    graph,
  };
}

/** Opens a model, passes its session to `use`, and disposes it, also after an error. */
export async function withSession<T>(engine: Engine, model: Model, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await engine.open(model);
  try {
    return await use(session);
  } finally {
    await session.dispose();
  }
}

/** Those of some tensors that have these names. */
export function namedTensors(tensors: Tensors, names: KeptNames): Tensors {
  return names === "all"
    ? tensors
    : Object.fromEntries(Object.entries(tensors).filter(([name]) => names.includes(name)));
}
