// A model of the exported repository: its tensors as Triton lists them, and its graph, whose weights lie in model files.
import type { Optimization } from "../../engine/sessions/engine.js";
import type { Graph } from "../../graph/graph.js";

/** Datatypes of tensors that cross a model's border, as KServe V2 names them. */
export type Datatype = "FP32" | "INT64" | "UINT8";

/** A tensor of a model; -1 is a length that a request decides. */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  readonly dims: readonly number[];
  /** One sentence for clients. */
  readonly summary: string;
}

/** A model with its graph; names and types of the graph's inputs and outputs are those of the specs. */
export interface ExportedModel {
  readonly name: string;
  /** One sentence for clients. */
  readonly summary: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly graph: Graph;
  /** "none": the server must not fold constants, which would widen 8-bit weights in host memory. */
  readonly optimization: Optimization;
}
