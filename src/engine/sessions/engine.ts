// What runs graphs: an engine opens sessions, a session runs feeds to results. Both are disposable.
import type { Graph } from "../../graph/graph.js";
import { weightsRoot } from "../../graph/locations.js";
import type { Tensors } from "../../std/tensor.js";
import type { Device } from "../providers.js";

/**
 * How much ONNX Runtime may rewrite a graph. "none" keeps weights as they are stored and opens fast: for graphs written
 * with fused operators over 8-bit floats, which folding would expand in host memory (rules 2 and 5 of the design).
 * "full" folds and lays out weights for the machine: for small networks of dense floats.
 */
export type Optimization = "none" | "full";

/** A graph as an engine takes it. */
export interface Model {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Names of what a run is fed. */
  readonly inputs: readonly string[];
  readonly optimization: Optimization;
  /** Folder from which the locations of weights count: the root of the file system, or of a drive. */
  readonly weightsRoot: string;
  /** The Graph that was encoded, for who counts what it costs; it does not travel to the worker. */
  readonly graph?: object;
  /** Claims that it is opened for one pass because it does not fit beside others: nobody keeps its session. */
  readonly isPassing?: boolean;
}

/** An opened graph. Runs are one at a time; dispose when done, its weights go with it. */
export interface Session {
  /** Feeds every input and gives every output; throws QEDIT_E_ENGINE or QEDIT_E_MEMORY. */
  run(feeds: Tensors): Promise<Tensors>;
  dispose(): Promise<void>;
}

/** Opens sessions on one device; dispose closes what is still open. */
export interface Engine {
  readonly device: Device;
  /** Throws QEDIT_E_ENGINE or QEDIT_E_MEMORY. */
  open(model: Model): Promise<Session>;
  dispose(): Promise<void>;
}

/** Encodes a graph for an engine. */
export async function modelOf(graph: Graph, optimization: Optimization): Promise<Model> {
  // Loaded when first used: help and version need no protobuf.
  const { encodeModel } = await import("../../graph/onnx.js");
  return {
    name: graph.name,
    bytes: encodeModel(graph),
    inputs: [...graph.inputs.keys()],
    optimization,
    weightsRoot: weightsRoot(graph),
    graph,
  };
}

/** Opens a graph, uses the session, and disposes it, whatever happens. */
export async function withSession<T>(engine: Engine, model: Model, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await engine.open(model);
  try {
    return await use(session);
  } finally {
    await session.dispose();
  }
}
