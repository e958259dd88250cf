// One operator of a graph, as ONNX describes it: onnx/onnx.proto3, NodeProto.
import type { DType, Shape } from "./types.js";

/** An attribute of a node: a whole number, a float, a text, or a list of whole numbers. */
export type Attribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string }
  | { readonly ints: readonly number[] };

/** One operator of the graph. */
export interface Node {
  readonly name: string;
  readonly operator: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** What a node gives: shapes of its outputs, their type; its attributes, and its domain unless it is ONNX's own. */
export interface NodeOptions {
  readonly shapes: readonly Shape[];
  readonly dtype: DType;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly domain?: string;
}

/** The domain of ONNX Runtime's own operators. */
export const MICROSOFT = "com.microsoft";
